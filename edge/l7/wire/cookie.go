package wire

import "bytes"

// JoinCookies makes one Cookie field of all there are, as versions of HTTP before 2
// want it (RFC 9113 section 8.2.3). It copies each octet once.
func (h *Head) JoinCookies() {
	first, size := -1, 0
	for i := range h.Fields {
		if h.Fields[i].ID != Cookie {
			continue
		}
		if size += len("; ") + len(h.Fields[i].Value); first < 0 {
			first = i
		}
	}
	if first < 0 || size == len("; ")+len(h.Fields[first].Value) {
		return
	}
	joined := make([]byte, 0, size)
	n := first
	for i := first; i < len(h.Fields); i++ {
		f := h.Fields[i]
		if f.ID == Cookie {
			joined = append(append(joined, f.Value...), "; "...)
		}
		if f.ID != Cookie || i == first {
			h.Fields[n] = f
			n++
		}
	}
	h.Fields = h.Fields[:n]
	h.Fields[first].Value = joined[:len(joined)-len("; ")]
}

// Cookie gives the value of the first cookie of that name (RFC 6265 section
// 5.4), nil where there is none.
func (h *Head) Cookie(name string) []byte {
	for i := range h.Fields {
		if h.Fields[i].ID != Cookie {
			continue
		}
		for rest, more := h.Fields[i].Value, true; more; {
			var pair []byte
			pair, rest, more = bytes.Cut(rest, []byte{';'})
			if k, v, ok := bytes.Cut(bytes.TrimSpace(pair), []byte{'='}); ok && string(k) == name {
				return v
			}
		}
	}
	return nil
}

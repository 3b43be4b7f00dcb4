package wire

import "bytes"

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

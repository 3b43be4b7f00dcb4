package zone

import (
	"bytes"
	"cmp"
	"slices"
)

// Compare orders two names in wire form and lower case canonically (RFC 4034
// section 6.1): label by label from the root, each as unsigned octets.
func Compare[A, B string | []byte](a A, b B) int {
	var as, bs [128]uint8
	i, j := offsets(a, &as), offsets(b, &bs)
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		p, q := int(as[i]), int(bs[j])
		n, m := int(a[p]), int(b[q])
		for k := 1; k <= n && k <= m; k++ {
			if a[p+k] != b[q+k] {
				return cmp.Compare(a[p+k], b[q+k])
			}
		}
		if n != m {
			return cmp.Compare(n, m)
		}
	}
	return cmp.Compare(i, j)
}

// offsets notes where each label begins, and gives how many there are.
func offsets[N string | []byte](name N, out *[128]uint8) int {
	n := 0
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		out[n] = uint8(at)
		n++
	}
	return n
}

// labels counts the labels of a name in wire form, the root's not.
func labels(name []byte) int {
	n := 0
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		n++
	}
	return n
}

// appendOrderKey appends octets that order as the name does canonically:
// labels from the root, each ended by 0; octets 0 and 1 are escaped. tail is
// the length of the end that all names have in common.
func appendOrderKey(dst, name []byte, tail int) []byte {
	var at [128]uint8
	for i := offsets(name, &at) - 1; i >= 0; i-- {
		from := int(at[i])
		if from >= len(name)-tail {
			continue
		}
		for _, c := range name[from+1 : from+1+int(name[from])] {
			if c <= 1 {
				dst = append(dst, 1)
			}
			dst = append(dst, c)
			if c == 0 {
				dst[len(dst)-1] = 1
			} else if c == 1 {
				dst[len(dst)-1] = 2
			}
		}
		dst = append(dst, 0)
	}
	return dst
}

// Canonical gives RDATA in canonical form (RFC 4034 section 6.2, RFC 6840
// section 5.1): names in the data of the old types in lower case. rdata
// itself is given where it is so already, and never changed.
func Canonical(t uint16, rdata []byte) []byte {
	form := layout(t)
	fresh := false
	at := 0
	for i := 0; i < len(form); i++ {
		n := fieldLen(form[i], rdata[at:])
		if form[i] == 'n' {
			for k := at; k < at+n; k++ {
				if c := Lower(rdata[k]); c != rdata[k] {
					if !fresh {
						fresh, rdata = true, slices.Clone(rdata)
					}
					rdata[k] = c
				}
			}
		}
		at += n
	}
	return rdata
}

// compareRDATA orders two RDATA of a type canonically (RFC 4034 section 6.3).
func compareRDATA(t uint16, a, b []byte) int {
	if hasNames(t) {
		return bytes.Compare(Canonical(t, a), Canonical(t, b))
	}
	return bytes.Compare(a, b)
}

// equalRDATA says whether two RDATA are the same record's (RFC 2181 section 5).
func equalRDATA(t uint16, a, b []byte) bool {
	return len(a) == len(b) && compareRDATA(t, a, b) == 0
}

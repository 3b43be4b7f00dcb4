package wire

import "strconv"

// AppendRequestLine writes a request's first line, for HTTP/1.1.
func AppendRequestLine(b, method, target []byte) []byte {
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, target...)
	return append(b, " HTTP/1.1\r\n"...)
}

// AppendStatusLine writes an answer's first line, for HTTP/1.1. An empty reason
// stands for the usual one.
func AppendStatusLine(b []byte, status int, reason []byte) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if len(reason) > 0 {
		b = append(b, reason...)
	} else {
		b = append(b, Reason(status)...)
	}
	return append(b, '\r', '\n')
}

// AppendField writes one line.
func AppendField(b, name, value []byte) []byte {
	b = append(b, name...)
	b = append(b, ':', ' ')
	b = append(b, value...)
	return append(b, '\r', '\n')
}

// AppendFields writes all fields of a head, and nothing after them.
func AppendFields(b []byte, h *Head) []byte {
	for i := range h.Fields {
		b = AppendField(b, h.Fields[i].Name, h.Fields[i].Value)
	}
	return b
}

// AppendChunk writes the line before a chunk of n octets; n is above 0. CRLF
// must follow the chunk.
func AppendChunk(b []byte, n int) []byte {
	b = strconv.AppendUint(b, uint64(n), 16)
	return append(b, '\r', '\n')
}

// AppendLast writes the last chunk and the trailers, if any (nil for none).
func AppendLast(b []byte, trailers *Head) []byte {
	b = append(b, '0', '\r', '\n')
	if trailers != nil {
		b = AppendFields(b, trailers)
	}
	return append(b, '\r', '\n')
}

// Reason gives the usual phrase for a status (RFC 9110 section 15), "" for
// one that is not registered.
func Reason(status int) string {
	if status < 0 || status >= len(reasons) {
		return ""
	}
	return reasons[status]
}

var reasons = [600]string{
	100: "Continue", 101: "Switching Protocols", 102: "Processing", 103: "Early Hints",
	200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information", 204: "No Content", 205: "Reset Content", 206: "Partial Content",
	300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
	400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required",
	408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed", 413: "Content Too Large", 414: "URI Too Long",
	415: "Unsupported Media Type", 416: "Range Not Satisfiable", 417: "Expectation Failed", 421: "Misdirected Request", 422: "Unprocessable Content",
	425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
	500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}

// AppendInteger writes an integer of HPACK (RFC 7541 section 5.1) and QPACK (RFC
// 9204 section 4.1.1) in the lowest bits of an octet that begins with mark, and
// what does not fit in octets behind it.
func AppendInteger(b []byte, mark byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, mark|byte(n))
	}
	b = append(b, mark|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

package l7

import (
	"sync"
	"time"

	"meridian/edge/l7/hello"
	"meridian/edge/l7/route"
)

// helloTimeout is how long a client may take to name a server.
const helloTimeout = 10 * time.Second

// What became of connections at ports where services are told apart by name.
const (
	helloNamed     = "named"
	helloDefault   = "default"
	helloUnknown   = "unknown"
	helloMalformed = "malformed"
	helloTooLarge  = "too_large"
	helloNone      = "none"
)

// hellos are buffers for what clients send first.
var hellos = sync.Pool{New: func() any { return new([hello.MaxOctets]byte) }}

// find finds the connection's service; false: it is to be closed.
func (x *stream) find(port uint16) bool {
	gen := x.g.gen.Load()
	if !gen.table.StreamsByName(port) {
		x.service = gen.stream(port, "")
		return x.service != nil // else gone since the connection came
	}
	result := x.greet()
	if result == "" {
		x.service, result = gen.stream(port, x.name), helloNamed
		if x.service == nil {
			result = helloUnknown
		} else if len(x.service.spec.Hosts) == 0 {
			result = helloDefault
		}
	}
	x.g.metrics.hellos.WithLabelValues(result).Inc()
	return x.service != nil
}

// greet reads the server name. Whoever speaks no TLS, or names no server, gets
// the name "". A result says why the connection is to be closed.
func (x *stream) greet() (result string) {
	buf := hellos.Get().(*[hello.MaxOctets]byte)
	defer hellos.Put(buf)
	x.client.readBy(time.Now().Add(helloTimeout))
	var r hello.Reader
	for n := 0; ; {
		got, err := x.client.Read(buf[n:])
		n += got
		h, fault := r.Read(buf[:n])
		switch {
		case fault == nil:
			if x.name, err = route.Host(h.ServerName); err != nil {
				return helloMalformed
			}
		case fault == hello.ErrNotTLS:
		case fault == hello.ErrMalformed:
			return helloMalformed
		case fault == hello.ErrTooLarge:
			return helloTooLarge
		case err != nil:
			return helloNone
		default:
			continue
		}
		x.client.ahead = append([]byte(nil), buf[:n]...)
		x.client.readBy(time.Time{})
		return ""
	}
}

package l7

import (
	"net"
	"net/netip"
	"sync"

	proxyproto "github.com/pires/go-proxyproto"
)

// ownLinks are connections to endpoints that were introduced as one client's,
// and carry the requests of nobody else. They end with the client's connection.
type ownLinks struct {
	mu     sync.Mutex
	links  []*link
	closed bool
}

// ownLink gives one that lives, nil where there is none.
func (x *session) ownLink(u *upstream, name string, fresh bool) *link {
	if fresh {
		return nil
	}
	o := &x.own
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := len(o.links) - 1; i >= 0; i-- {
		l := o.links[i]
		if l.u != u || l.name != name {
			continue
		}
		o.links = append(o.links[:i], o.links[i+1:]...)
		if l.alive() {
			return l
		}
		l.Conn.Close()
	}
	return nil
}

func (x *session) keepLink(l *link) {
	o := &x.own
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		l.Conn.Close()
		return
	}
	o.links = append(o.links, l)
}

func (o *ownLinks) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, l := range o.links {
		l.Conn.Close()
	}
	o.links = nil
}

// introduce tells an endpoint whose connection it is (the PROXY protocol's
// specification, HAProxy 2.9).
func introduce(version byte, client, vip netip.AddrPort, to net.Conn) error {
	_, err := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(vip)).WriteTo(to)
	return err
}

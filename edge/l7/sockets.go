package l7

// sockets are those that a generation needs and the Gateway does not have yet.
type sockets struct {
	listeners []*listener
	packets   []*packets
	datagrams []*datagrams
}

// openAll binds them. On an error nothing stays open.
func (g *Gateway) openAll(gen *generation) (s sockets, err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.listeners, err = g.open(gen); err != nil {
		return s, err
	}
	if s.packets, err = g.openPackets(gen); err != nil {
		return s, err
	}
	s.datagrams, err = g.openDatagrams(gen)
	return s, err
}

func (s *sockets) close() {
	for _, l := range s.listeners {
		l.socket.Close()
	}
	for _, p := range s.packets {
		p.serving.Close()
	}
	for _, d := range s.datagrams {
		d.socket.Close()
	}
}

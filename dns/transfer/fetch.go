package transfer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"meridian/dns/tsig"
	"meridian/dns/zone"
	"meridian/fleet"
)

// How long a primary may take.
const (
	askTimeout  = 2 * time.Second  // for one answer over UDP; asked twice
	dialTimeout = 5 * time.Second  // for a connection, TLS among it
	readTimeout = 30 * time.Second // for each message of a transfer
)

// A transfer brings paceOctets in each paceTime: whoever trickles holds one of
// the few transfers that run at a time from the zones of others.
const (
	paceTime   = time.Minute
	paceOctets = 10 << 10
)

// Errors of one primary.
var (
	errOlder       = errors.New("its serial is older than ours")
	errConnect     = errors.New("no connection")
	errUnreachable = errors.New("it was unreachable a moment ago")
	errTrickle     = errors.New("it sends too slowly")
)

// fetch brings a zone from one primary, as differences where it can: what it
// gives is newer than old, or nil where old is current. force takes the whole
// zone whatever its serial.
func (t *Transfer) fetch(ctx context.Context, name fleet.Name, p *peer, old *zone.Zone, force bool) (*zone.Zone, error) {
	if old != nil && !force && p.tls == nil {
		serial, err := askSerial(ctx, name, p)
		switch {
		case err == nil && serial == old.Serial:
			return nil, nil
		case err == nil && !newer(serial, old.Serial):
			return nil, fmt.Errorf("%w: %d, not %d", errOlder, serial, old.Serial)
		case err != nil && ctx.Err() != nil:
			return nil, err
		} // no answer over UDP: the stream tells
	}
	if old != nil && !force {
		z, err := t.transfer(ctx, name, p, old, true, force)
		var refused rcodeError
		switch {
		case err == nil || errors.Is(err, errOlder) || isSilence(err) || ctx.Err() != nil:
			return z, err
		case errors.As(err, &refused) || errors.Is(err, errGap):
			t.log.Debug("no differences; the whole zone is asked for", "zone", name, "primary", p.Address, "err", err)
		default:
			t.log.Info("differences were no good; the whole zone is asked for", "zone", name, "primary", p.Address, "err", err)
		}
	}
	return t.transfer(ctx, name, p, old, false, force)
}

// isSilence says whether a primary could not be reached, or said nothing or
// very little for too long.
func isSilence(err error) bool {
	var e net.Error
	return errors.Is(err, errConnect) || errors.Is(err, errTrickle) || errors.Is(err, errTooSlow) || errors.As(err, &e) && e.Timeout()
}

// isNetwork says whether an error is the network's, and not what was said.
func isNetwork(err error) bool {
	var e net.Error
	return errors.As(err, &e) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errConnect)
}

// transfer does one IXFR or AXFR over a connection of its own.
func (t *Transfer) transfer(ctx context.Context, name fleet.Name, p *peer, old *zone.Zone, ixfr, force bool) (*zone.Zone, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.MaxTime)
	defer cancel()
	conn, err := dial(ctx, p)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // a deadline would be set anew by the next read

	qtype := uint16(typeAXFR)
	if ixfr {
		qtype = typeIXFR
	}
	msg := request(name, qtype, old)
	in := newIncoming(name, binary.BigEndian.Uint16(msg), old, ixfr, limits{t.cfg.MaxOctets, t.cfg.MaxRecords})
	in.force = force
	var verify *tsig.Client
	if p.key != nil {
		msg, verify = p.key.Request(msg, time.Now())
	}
	if err := writeMessage(conn, msg); err != nil {
		return nil, err
	}
	if err := in.receive(ctx, conn, verify); err != nil {
		return nil, err
	}
	t.metrics.received(in)
	return in.newest()
}

// receive takes the messages of a transfer; verify is nil where they are not
// signed.
func (in *incoming) receive(ctx context.Context, conn net.Conn, verify *tsig.Client) error {
	since, octets := time.Now(), 0
	for !in.done() {
		wire, err := readMessage(conn, readTimeout)
		if ctx.Err() != nil {
			err = errTooSlow
		}
		if err != nil {
			return fmt.Errorf("after %d records: %w", in.seen, err)
		}
		octets += len(wire)
		if verify != nil {
			if wire, err = verify.Verify(wire, time.Now()); err != nil {
				return err
			}
		}
		if err := in.message(wire); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(since) >= paceTime && !in.done() {
			if octets < paceOctets {
				return fmt.Errorf("after %d records: %w: %d octets in %s", in.seen, errTrickle, octets, now.Sub(since).Round(time.Second))
			}
			since, octets = now, 0
		}
	}
	if verify != nil {
		return verify.Done()
	}
	return nil
}

// newest gives the zone where it is newer than the one that we have.
func (in *incoming) newest() (*zone.Zone, error) {
	if in.old != nil && !in.force && !newer(in.serial, in.old.Serial) {
		if in.upToDate {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: %d, not %d", errOlder, in.serial, in.old.Serial)
	}
	return in.result()
}

// dial connects to a peer, from its source address if it has one.
func dial(ctx context.Context, p *peer) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := net.Dialer{}
	if p.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", p.Address.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConnect, err)
	}
	if p.tls == nil {
		return conn, nil
	}
	secure := tls.Client(conn, p.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error tells more
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if got := secure.ConnectionState().NegotiatedProtocol; got != "dot" && !p.tls.InsecureSkipVerify {
		_ = conn.Close() // as above
		return nil, fmt.Errorf("TLS: the server does not speak ALPN dot (RFC 9103 section 7.1)")
	}
	return secure, nil
}

func writeMessage(conn net.Conn, msg []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...))
	return err
}

func readMessage(conn net.Conn, timeout time.Duration) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(conn, msg); err != nil {
		return nil, err
	}
	return msg, nil
}

// request makes a query; for IXFR with the SOA of old in the authority section
// (RFC 1995 section 3).
func request(name fleet.Name, qtype uint16, old *zone.Zone) []byte {
	msg := binary.BigEndian.AppendUint16(nil, uint16(rand.Uint32()))
	msg = append(msg, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	msg = append(msg, zone.Wire(name)...)
	msg = binary.BigEndian.AppendUint16(msg, qtype)
	msg = binary.BigEndian.AppendUint16(msg, classIN)
	if qtype == typeIXFR {
		msg[9] = 1
		msg = appendRecord(msg, soaOf(old))
	}
	return msg
}

// appendRecord appends a record without compression.
func appendRecord(msg []byte, r record) []byte {
	msg = append(msg, r.owner...)
	msg = binary.BigEndian.AppendUint16(msg, r.rtype)
	msg = binary.BigEndian.AppendUint16(msg, classIN)
	msg = binary.BigEndian.AppendUint32(msg, r.ttl)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(r.data)))
	return append(msg, r.data...)
}

// askSerial asks a primary for its serial over UDP.
func askSerial(ctx context.Context, name fleet.Name, p *peer) (uint32, error) {
	d := net.Dialer{}
	if p.Source.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0))
	}
	conn, err := d.DialContext(ctx, "udp", p.Address.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for range 2 {
		var serial uint32
		if serial, err = askOnce(conn, name, p); err == nil || !isNetwork(err) {
			return serial, err
		}
	}
	return 0, err
}

func askOnce(conn net.Conn, name fleet.Name, p *peer) (uint32, error) {
	msg := request(name, zone.TypeSOA, nil)
	id := binary.BigEndian.Uint16(msg)
	var verify *tsig.Client
	if p.key != nil {
		msg, verify = p.key.Request(msg, time.Now())
	}
	if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(msg); err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return 0, err
		}
		wire := buf[:n]
		if n < headerLen || binary.BigEndian.Uint16(wire) != id {
			continue // late, or not for us
		}
		if verify != nil {
			if wire, err = verify.Verify(wire, time.Now()); err != nil {
				return 0, err
			}
		}
		return serialIn(wire, name)
	}
}

// serialIn reads the serial in an authoritative answer to a SOA query.
func serialIn(wire []byte, name fleet.Name) (uint32, error) {
	m, _, err := parse(wire)
	switch {
	case err != nil:
		return 0, err
	case !m.answer() || m.opcode() != opQuery:
		return 0, errMessage
	case m.rcode() != rcodeOK:
		return 0, rcodeError(m.rcode())
	case m.flags&0x0400 == 0:
		return 0, errors.New("its answer is not authoritative")
	}
	r := reader{msg: &m, at: m.at}
	for range m.counts[1] {
		if err := r.next(); err != nil {
			return 0, err
		}
		if r.rtype == zone.TypeSOA && r.class == classIN && string(r.owner) == string(zone.Wire(name)) {
			if err := zone.CheckRDATA(r.rtype, r.data); err != nil {
				return 0, err
			}
			return binary.BigEndian.Uint32(r.data[len(r.data)-20:]), nil
		}
	}
	return 0, errors.New("its answer holds no SOA")
}

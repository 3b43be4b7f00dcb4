package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// maxAnswer is the largest datagram that answers a check, octets.
const maxAnswer = 1500

var errNoAnswer = errors.New("the datagram is no answer to the query")

// rcodeError is an answer that says an error.
type rcodeError struct {
	name  string
	rcode int
}

func (e *rcodeError) Error() string {
	return fmt.Sprintf("the query for %s is answered %s", e.name, dns.RcodeToString[e.rcode])
}

// ask sends the datagram of a check and judges the answer.
func (c *checker) ask(conn net.Conn) error {
	send, id := []byte(c.plan.send), uint16(0)
	if c.plan.kind == fleet.CheckDNS {
		q := new(dns.Msg).SetQuestion(dns.Fqdn(c.plan.name), dns.TypeSOA)
		var err error
		if send, err = q.Pack(); err != nil {
			return fmt.Errorf("query for %s: %w", c.plan.name, err)
		}
		id = q.Id
	}
	if _, err := conn.Write(send); err != nil {
		return fmt.Errorf("send the check: %w", err)
	}
	buf := make([]byte, maxAnswer)
	n, err := conn.Read(buf)
	if err != nil {
		return fmt.Errorf("answer to the check: %w", err)
	}
	if c.plan.kind == fleet.CheckDNS {
		return judgeDNS(buf[:n], id, c.plan.name)
	}
	if want := c.plan.expect.Body; want != "" && !bytes.Contains(buf[:n], []byte(want)) {
		return errBody
	}
	return nil
}

// judgeDNS says what is wrong with a nameserver's answer, if anything.
func judgeDNS(answer []byte, id uint16, name string) error {
	var m dns.Msg
	if err := m.Unpack(answer); err != nil || m.Id != id || !m.Response {
		return errors.Join(errNoAnswer, err)
	}
	if m.Rcode != dns.RcodeSuccess {
		return &rcodeError{name, m.Rcode}
	}
	return nil
}

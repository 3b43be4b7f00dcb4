package probe

import (
	"bytes"
	"context"
	"net/netip"
	"time"

	"meridian/fleet"
)

// exchange sends one datagram and takes anything that comes back for an answer, or
// what Expect says.
func (p *Prober) exchange(ctx context.Context, pr *fleet.Probe) error {
	return p.ask(ctx, pr.Address, []byte(pr.Send), func(answer []byte) (bool, error) {
		if !bytes.Contains(answer, []byte(pr.Expect.Body)) {
			return true, failf(fleet.CauseBody, "the answer does not hold %q", pr.Expect.Body)
		}
		return true, nil
	})
}

// ask sends one datagram, and has look consider those that come back until it is
// done; its error is then ask's.
func (p *Prober) ask(ctx context.Context, to netip.AddrPort, datagram []byte, look func(answer []byte) (done bool, err error)) error {
	c, err := p.dial(ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	// A cancelled context ends the wait at once.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(datagram); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		if done, err := look(buf[:n]); done {
			return err
		}
	}
}

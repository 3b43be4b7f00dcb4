package probe

import (
	"bytes"
	"context"
	"time"

	"meridian/fleet"
)

// exchange sends one datagram and takes anything that comes back for an answer, or
// what Expect says.
func (p *Prober) exchange(ctx context.Context, pr *fleet.Probe) error {
	c, err := p.dial(ctx, "udp", pr.Address.String())
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write([]byte(pr.Send)); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	if !bytes.Contains(buf[:n], []byte(pr.Expect.Body)) {
		return failf(fleet.CauseBody, "the answer does not hold %q", pr.Expect.Body)
	}
	return nil
}

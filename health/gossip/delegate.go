package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"strings"

	"github.com/hashicorp/memberlist"
	"golang.org/x/time/rate"
)

// delegate is what memberlist calls back.
type delegate struct{ g *Gossip }

// NodeMeta tells the others this node's region.
func (d delegate) NodeMeta(limit int) []byte { return []byte(d.g.cfg.Region) }

// NotifyMsg takes a frame in. memberlist may use b again afterwards, and
// receive keeps no reference.
func (d delegate) NotifyMsg(b []byte) { d.g.receive(b) }

// GetBroadcasts has nothing to say: frames go directly to every member.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte { return nil }

// LocalState and MergeRemoteState exchange the last frames with a member met
// anew, and with a random one every ten seconds.
func (d delegate) LocalState(join bool) []byte { return d.g.local() }

// MergeRemoteState takes in what the other side's LocalState gave.
func (d delegate) MergeRemoteState(b []byte, join bool) { d.g.merge(b) }

// NotifyJoin, NotifyLeave and NotifyUpdate are told of the members' changes.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	d.g.cfg.Logger.Info("gossip: member joined", "member", n.Name, "region", string(n.Meta), "address", n.Address())
}

// NotifyLeave is told of members that left or were found dead.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.g.cfg.Logger.Info("gossip: member left", "member", n.Name, "region", string(n.Meta), "address", n.Address())
}

// NotifyUpdate is told of members whose region changed; frames tell it too.
func (d delegate) NotifyUpdate(*memberlist.Node) {}

// logWriter takes memberlist's lines, "[LEVEL] memberlist: text", into slog.
// What it calls errors are mostly packets of strangers and members that do not
// answer, so they come out one level lower, and not more than some a second.
type logWriter struct {
	to    *slog.Logger
	limit *rate.Limiter
}

func newLogWriter(to *slog.Logger) *logWriter {
	return &logWriter{to, rate.NewLimiter(5, 20)}
}

func (w *logWriter) Write(b []byte) (int, error) {
	level := slog.LevelDebug
	text := string(bytes.TrimSpace(b))
	if tag, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "] "); ok && text[0] == '[' {
		text = rest
		switch tag {
		case "ERR", "ERROR":
			level = slog.LevelWarn
		case "WARN":
			level = slog.LevelInfo
		}
	}
	if level == slog.LevelDebug || w.limit.Allow() {
		w.to.Log(context.Background(), level, "gossip: "+strings.TrimPrefix(text, "memberlist: "))
	}
	return len(b), nil
}

package acme

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	acmeapi "github.com/mholt/acmez/v3/acme"

	"meridian/fleet"
)

// Control is what the room needs of the control plane; controlplane.ControlPlane
// is one.
type Control interface {
	Current() *fleet.World
	// Changed gives a channel that is closed when something changes after.
	Changed() <-chan struct{}
	PutLive(ctx context.Context, put map[fleet.Name][]byte) (versions map[fleet.Name]string, err error)
	AwaitNodes(ctx context.Context, role fleet.Role, id fleet.Name, version string) error
	AwaitDerived(ctx context.Context, versions map[fleet.Name]string) error
}

// Resolver tells what a name is an alias of, "" for nothing; dns/stub's Stub is one.
type Resolver interface {
	CNAME(ctx context.Context, name fleet.Name) (fleet.Name, error)
}

// solver answers challenges of one kind by live objects, and lets the authority
// be told once every node that may be asked has them.
type solver struct {
	kind    fleet.ACMEChallenge
	control Control
	aliases Resolver      // nil: none are followed
	wait    time.Duration // for nodes to acknowledge
	log     *slog.Logger

	mu  sync.Mutex
	has map[string]map[fleet.Name]string // put, by token: versions by id
}

var (
	_ acmez.Solver = (*solver)(nil)
	_ acmez.Waiter = (*solver)(nil)
)

// cleanLimit bounds the removal of what was put: it goes on where the order was
// broken off.
const cleanLimit = 15 * time.Second

func newSolvers(cfg *Config) map[fleet.ACMEChallenge]acmez.Solver {
	out := map[fleet.ACMEChallenge]acmez.Solver{}
	for _, kind := range []fleet.ACMEChallenge{fleet.DNS01, fleet.HTTP01, fleet.TLSALPN01} {
		out[kind] = &solver{kind: kind, control: cfg.Control, aliases: cfg.Resolver, wait: cfg.Wait, log: cfg.Logger, has: map[string]map[fleet.Name]string{}}
	}
	return out
}

// answer gives the live object that answers a challenge.
func (s *solver) answer(ctx context.Context, c acmeapi.Challenge) (id fleet.Name, data []byte, err error) {
	switch s.kind {
	case fleet.HTTP01:
		data, err = json.Marshal(fleet.Token{Host: c.Identifier.Value, Auth: c.KeyAuthorization})
		return fleet.LiveID(fleet.LiveToken, c.Token), data, err
	case fleet.DNS01:
		owner, err := s.owner(ctx, c.DNS01TXTRecordName())
		if err != nil {
			return "", nil, err
		}
		text := c.DNS01KeyAuthorization()
		return fleet.LiveID(fleet.LiveTXT, string(owner), short(text)), []byte(text), nil
	}
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return "", nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return "", nil, err
	}
	data = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	return fleet.LiveID(fleet.LiveALPN, c.Identifier.Value), data, nil
}

// mostAliases bounds the way from a name elsewhere to one of the fleet's zones.
const mostAliases = 8

// owner gives where the record of a challenge goes: to the name itself where a zone
// of the fleet holds it, else to where its CNAME leads. So who has the zone elsewhere
// can leave the challenges to the fleet.
func (s *solver) owner(ctx context.Context, record string) (fleet.Name, error) {
	name, err := fleet.ParseName(record)
	if err != nil {
		return "", err
	}
	spec := s.control.Current().Snapshot.Spec
	at := name
	for range mostAliases {
		if spec.HostingZone(string(at)) != nil {
			return at, nil
		}
		if s.aliases == nil {
			break
		}
		if at, err = s.aliases.CNAME(ctx, at); err != nil {
			return "", err
		}
		if at == "" {
			break
		}
	}
	return "", fmt.Errorf("%s is in no zone of the Spec that the fleet writes, and no CNAME leads from it to one", name)
}

func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// Present implements acmez.Solver.
func (s *solver) Present(ctx context.Context, c acmeapi.Challenge) error {
	id, data, err := s.answer(ctx, c)
	if err != nil {
		return fmt.Errorf("%s for %s: %w", s.kind, c.Identifier.Value, err)
	}
	versions, err := s.control.PutLive(ctx, map[fleet.Name][]byte{id: data})
	if err != nil {
		return fmt.Errorf("%s for %s: %w", s.kind, c.Identifier.Value, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has[c.Token] = versions
	return nil
}

// Wait implements acmez.Waiter. A node that does not acknowledge in time keeps
// the order no longer: it may be on its way out, and the authority may well ask
// another.
func (s *solver) Wait(ctx context.Context, c acmeapi.Challenge) error {
	s.mu.Lock()
	versions := maps.Clone(s.has[c.Token])
	s.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	role := fleet.RoleL7
	if s.kind == fleet.DNS01 {
		role = fleet.RoleDNS
		marks, err := s.mark(limited, c.Token, versions)
		if err != nil {
			return fmt.Errorf("%s for %s: %w", s.kind, c.Identifier.Value, err)
		}
		versions = marks
	}
	for id, v := range versions {
		if err := s.control.AwaitNodes(limited, role, id, v); err != nil && ctx.Err() == nil {
			s.log.Warn("a challenge is answered by some nodes only; the authority is told all the same", "name", c.Identifier.Value, "error", err)
			return nil
		}
	}
	return ctx.Err()
}

// mark waits until the zones have the records, and puts a mark after them: who
// has that has the zones.
func (s *solver) mark(ctx context.Context, token string, records map[fleet.Name]string) (map[fleet.Name]string, error) {
	if err := s.control.AwaitDerived(ctx, records); err != nil {
		return nil, err
	}
	marks, err := s.control.PutLive(ctx, map[fleet.Name][]byte{fleet.LiveID(fleet.LiveMark, token): []byte(token)})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.has[token], marks)
	return marks, nil
}

// CleanUp implements acmez.Solver.
func (s *solver) CleanUp(ctx context.Context, c acmeapi.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	s.mu.Lock()
	put := map[fleet.Name][]byte{}
	for id := range s.has[c.Token] {
		put[id] = nil
	}
	delete(s.has, c.Token)
	s.mu.Unlock()
	_, err := s.control.PutLive(ctx, put)
	return err
}

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"meridian/dns/sign"
	"meridian/fleet"
	"meridian/identity"
)

// Keys is what people do with zones' keys. *Admin is one, the admin API calls
// it.
type Keys interface {
	List(ctx context.Context) ([]ZoneKeys, error)
	Show(ctx context.Context, zone fleet.Name) (*ZoneKeys, error)
	Roll(ctx context.Context, zone fleet.Name, role sign.Role) (*ZoneKeys, error)
	Parent(ctx context.Context, zone fleet.Name, tag uint16, word sign.HandCheck) (*ZoneKeys, error)
	New(ctx context.Context, zone fleet.Name) (*ZoneKeys, error)
	Export(ctx context.Context, zone fleet.Name) ([]sign.File, error)
	Import(ctx context.Context, zone fleet.Name, files []sign.File, role sign.Role) (*ZoneKeys, error)
	Backup(ctx context.Context) ([]byte, error)
	Restore(ctx context.Context, backup []byte) ([]fleet.Name, error)
}

// ZoneKeys is a zone's keys as people see them, without what is private.
type ZoneKeys struct {
	Zone    fleet.Name  `json:"zone"`
	Policy  string      `json:"policy,omitempty"`
	Keys    []KeyInfo   `json:"keys"`
	Rolling []sign.Role `json:"rolling,omitempty"` // asked for and not yet begun
	Leaving bool        `json:"leaving,omitempty"` // being unsigned
	New     bool        `json:"new,omitempty"`     // without keys: new ones are made, whatever the parent has
	DS      []sign.DS   `json:"ds"`                // that the parent should have
	Parent  []sign.DS   `json:"parent,omitempty"`  // that it had when it was asked last
	Checked time.Time   `json:"checked,omitzero"`  // when that was
	Error   string      `json:"error,omitempty"`   // why nothing more can be said
}

// KeyInfo is one key.
type KeyInfo struct {
	Role      sign.Role  `json:"role"`
	KeyTag    uint16     `json:"key_tag"`
	Algorithm string     `json:"algorithm"`
	Created   time.Time  `json:"created"`
	Retired   bool       `json:"retired,omitempty"`
	Revoked   time.Time  `json:"revoked,omitzero"`
	DNSKEY    sign.Phase `json:"dnskey"`
	RRSIG     sign.Phase `json:"rrsig"`
	DS        sign.Phase `json:"ds"`
}

// Admin changes key states in a store, with or without a Keeper at work on
// it.
type Admin struct {
	Store    KeyStore                                        //
	Names    func(ctx context.Context) ([]fleet.Name, error) // zones that may have keys, to list and back up; nil: Store is a Lister
	Identity *identity.Identity                              // seals backups
	Rand     io.Reader
	Changed  func(fleet.Name) // told of each change; may be nil; Keeper.Invalidate is one
}

// Errors of Admin.
var (
	ErrNoKeys = errors.New("the zone has no keys")
	ErrInput  = errors.New("cannot be done") // wrapped around what is wrong with what was asked for
)

func (a *Admin) load(ctx context.Context, zone fleet.Name) (*sign.State, string, error) {
	b, version, err := a.Store.Load(ctx, zone)
	if err != nil {
		return nil, "", fmt.Errorf("keys of %s: %w", zone, err)
	}
	if len(b) == 0 {
		return &sign.State{}, version, nil
	}
	s, err := sign.DecodeState(b)
	if err != nil {
		return nil, "", fmt.Errorf("keys of %s: %w", zone, err)
	}
	return s, version, nil
}

// edit changes a zone's state, again where another changes it too.
func (a *Admin) edit(ctx context.Context, zone fleet.Name, change func(*sign.State) error) (*ZoneKeys, error) {
	for try := 0; ; try++ {
		s, version, err := a.load(ctx, zone)
		if err != nil {
			return nil, err
		}
		if err := change(s); err != nil {
			return nil, fmt.Errorf("zone %s: %w", zone, err)
		}
		b, err := s.Encode()
		if err != nil {
			return nil, err
		}
		err = a.Store.Save(ctx, zone, b, version)
		switch {
		case errors.Is(err, ErrConflict) && try < 5:
			continue
		case err != nil:
			return nil, fmt.Errorf("keys of %s: %w", zone, err)
		}
		if a.Changed != nil {
			a.Changed(zone)
		}
		return view(zone, s), nil
	}
}

func view(zone fleet.Name, s *sign.State) *ZoneKeys {
	out := &ZoneKeys{Zone: zone, Keys: []KeyInfo{}, DS: []sign.DS{}, Rolling: s.Roll, Leaving: s.Leave, New: s.New, Parent: s.Parent, Checked: s.Checks}
	if s.Policy != nil {
		out.Policy = s.Policy.Policy
	}
	for i := range s.Keys {
		k := &s.Keys[i]
		out.Keys = append(out.Keys, KeyInfo{k.Role, k.Tag(), sign.AlgorithmName(k.Algorithm), k.Created, k.Retired, k.Revoked, k.DNSKEY, k.RRSIG, k.DS})
	}
	if !s.Leave {
		for _, k := range s.DSKeys() {
			out.DS = append(out.DS, k.DSFor(zone))
		}
	}
	return out
}

func (a *Admin) zones(ctx context.Context) ([]fleet.Name, error) {
	if a.Names != nil {
		return a.Names(ctx)
	}
	l, ok := a.Store.(Lister)
	if !ok {
		return nil, errors.New("this key store cannot list its zones")
	}
	return l.Zones(ctx)
}

// List gives every zone that has keys. One that cannot be read has an Error.
func (a *Admin) List(ctx context.Context) ([]ZoneKeys, error) {
	names, err := a.zones(ctx)
	if err != nil {
		return nil, err
	}
	out := []ZoneKeys{}
	for _, n := range names {
		switch s, _, err := a.load(ctx, n); {
		case err != nil:
			out = append(out, ZoneKeys{Zone: n, Error: err.Error()})
		case len(s.Keys) > 0:
			out = append(out, *view(n, s))
		}
	}
	return out, nil
}

// Show gives a zone's keys; ErrNoKeys where it has none.
func (a *Admin) Show(ctx context.Context, zone fleet.Name) (*ZoneKeys, error) {
	s, _, err := a.load(ctx, zone)
	if err != nil {
		return nil, err
	}
	if len(s.Keys) == 0 {
		return nil, fmt.Errorf("%s: %w", zone, ErrNoKeys)
	}
	return view(zone, s), nil
}

// Roll has the keys of a role rolled as soon as that is safe.
func (a *Admin) Roll(ctx context.Context, zone fleet.Name, role sign.Role) (*ZoneKeys, error) {
	return a.edit(ctx, zone, func(s *sign.State) error {
		if len(s.Keys) == 0 {
			return ErrNoKeys
		}
		if err := s.Ask(role); err != nil {
			return fmt.Errorf("%w: %w", ErrInput, err)
		}
		return nil
	})
}

// Parent notes what an operator says of a key's DS at a parent that cannot be
// asked. Tag 0 stands for all keys.
func (a *Admin) Parent(ctx context.Context, zone fleet.Name, tag uint16, word sign.HandCheck) (*ZoneKeys, error) {
	return a.edit(ctx, zone, func(s *sign.State) error {
		if word != sign.SeenAtParent && word != sign.GoneAtParent {
			return fmt.Errorf("%w: %q is not seen or gone", ErrInput, word)
		}
		hand := map[uint16]sign.HandCheck{}
		for t, w := range s.Hand {
			hand[t] = w
		}
		found := false
		for i := range s.Keys {
			k := &s.Keys[i]
			if k.Role != sign.ZSK && (tag == 0 || k.Tag() == tag) {
				hand[k.Tag()], found = word, true
			}
		}
		if !found {
			return fmt.Errorf("%w: there is no KSK or CSK with key tag %d", ErrInput, tag)
		}
		s.Hand = hand
		return nil
	})
}

// New has new keys made for a zone that has none as soon as it is to be signed,
// also where its parent has a DS of other keys.
func (a *Admin) New(ctx context.Context, zone fleet.Name) (*ZoneKeys, error) {
	return a.edit(ctx, zone, func(s *sign.State) error {
		if len(s.Keys) > 0 {
			return fmt.Errorf("%w: the zone has keys", ErrInput)
		}
		*s = sign.State{New: true}
		return nil
	})
}

// Export gives a zone's keys as files, private keys among them.
func (a *Admin) Export(ctx context.Context, zone fleet.Name) ([]sign.File, error) {
	s, _, err := a.load(ctx, zone)
	if err != nil {
		return nil, err
	}
	if len(s.Keys) == 0 {
		return nil, fmt.Errorf("%s: %w", zone, ErrNoKeys)
	}
	var out []sign.File
	for i := range s.Keys {
		out = append(out, sign.Export(zone, &s.Keys[i], max(s.KeyTTL.TTL, 3600))...)
	}
	return out, nil
}

// Import takes in keys from files; see sign.Import and State.Import.
func (a *Admin) Import(ctx context.Context, zone fleet.Name, files []sign.File, role sign.Role) (*ZoneKeys, error) {
	now := time.Now()
	keys, err := sign.Import(zone, files, role, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	return a.edit(ctx, zone, func(s *sign.State) error {
		if err := s.Import(keys, now); err != nil {
			return fmt.Errorf("%w: %w", ErrInput, err)
		}
		return nil
	})
}

// backup is all key states of a fleet.
type backup struct {
	Version int                            `json:"version"`
	Zones   map[fleet.Name]json.RawMessage `json:"zones"`
}

const (
	backupMagic = "meridian key backup 1\n"
	backupAs    = "keys/backup"
)

// Backup gives all key states, sealed with the fleet key.
func (a *Admin) Backup(ctx context.Context) ([]byte, error) {
	names, err := a.zones(ctx)
	if err != nil {
		return nil, err
	}
	b := backup{Version: 1, Zones: map[fleet.Name]json.RawMessage{}}
	for _, n := range names {
		state, _, err := a.Store.Load(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("keys of %s: %w", n, err)
		}
		if len(state) > 0 {
			b.Zones[n] = state
		}
	}
	plain, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	sealed, err := a.Identity.Seal(a.Rand, plain, backupAs)
	if err != nil {
		return nil, err
	}
	return append([]byte(backupMagic), sealed...), nil
}

// Restore puts the key states of a backup in place of what is there, and gives
// the zones. Nothing is changed unless all of it is good.
func (a *Admin) Restore(ctx context.Context, data []byte) ([]fleet.Name, error) {
	states, err := openBackup(data, a.Identity)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	var out []fleet.Name
	for n := range states {
		out = append(out, n)
	}
	slices.Sort(out)
	for _, n := range out {
		if _, err := a.edit(ctx, n, func(s *sign.State) error { *s = *states[n]; return nil }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func openBackup(data []byte, id *identity.Identity) (map[fleet.Name]*sign.State, error) {
	if len(data) < len(backupMagic) || string(data[:len(backupMagic)]) != backupMagic {
		return nil, errors.New("is not a backup of keys")
	}
	plain, err := id.Open(data[len(backupMagic):], backupAs)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return parseBackup(plain)
}

func parseBackup(plain []byte) (map[fleet.Name]*sign.State, error) {
	var b backup
	if err := json.Unmarshal(plain, &b); err != nil || b.Version != 1 {
		return nil, errors.New("backup: is damaged or of another version")
	}
	out := map[fleet.Name]*sign.State{}
	for n, raw := range b.Zones {
		s, err := sign.DecodeState(raw)
		if err != nil {
			return nil, fmt.Errorf("backup: %s: %w", n, err)
		}
		out[n] = s
	}
	return out, nil
}

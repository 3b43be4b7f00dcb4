package fleet

// ObjectKind is a kind of object: data that the Snapshot names and does not
// hold, each object versioned alone with one writer.
type ObjectKind string

// The kinds of object.
const (
	ObjectZone        ObjectKind = "zone"        // a zone in master-file format; ID is its Name
	ObjectCertificate ObjectKind = "certificate" // chain and private key in PEM, one after the other; ID is the Certificate's
	ObjectCA          ObjectKind = "ca"          // authorities in PEM; ID is the reference that the Spec uses
)

// ObjectKey names one object.
type ObjectKey struct {
	Kind ObjectKind
	ID   string
}

// Object is one object's content. It is immutable.
type Object struct {
	Key  ObjectKey
	Data []byte
	File string // where it was read from, for messages; may be empty
}

// World is all that the control plane wants of a node, of one moment: the
// Snapshot, every object that it names, and the shifts in force. It is
// immutable.
type World struct {
	Snapshot *Snapshot
	Objects  map[ObjectKey]Object
	Shifts   []Shift // in order of ID
}

// Wanted lists the objects that the Snapshot names, in the Spec's order: the
// zones, the certificates, and the authorities that pools and probes trust by
// reference.
func (s *Snapshot) Wanted() []ObjectKey {
	var out []ObjectKey
	seen := map[ObjectKey]bool{}
	add := func(k ObjectKind, id string) {
		if key := (ObjectKey{k, id}); !seen[key] {
			seen[key] = true
			out = append(out, key)
		}
	}
	for _, z := range s.Spec.Zones {
		add(ObjectZone, string(z.Zone))
	}
	for _, c := range s.Spec.Certificates {
		add(ObjectCertificate, c.ID)
	}
	for _, svc := range s.Spec.Services {
		for _, p := range svc.Pools {
			if p.TLS != nil && p.TLS.CA != "" {
				add(ObjectCA, p.TLS.CA)
			}
		}
	}
	if s.Spec.Probes.CA != "" {
		add(ObjectCA, s.Spec.Probes.CA)
	}
	return out
}

package fleet

// Advice tells what a zone's settings allow and hardly anybody wants; nothing
// where they are sound.
func (s *Spec) Advice(z *Zone) []string {
	set := s.Settings(z)
	const unseen = "secondaries do not see that what transfers show of steered names has changed (export, VIPs, steering) until "
	switch {
	case len(z.Steered) == 0 || len(set.Transfer)+len(set.Notify) == 0:
		return nil
	case len(set.Primaries) > 0:
		return []string{"its primaries write the serial: " + unseen + "they raise it"}
	case set.Serial == SerialKeep:
		return []string{"serial: keep: " + unseen + "the content's serial is raised"}
	}
	return nil
}

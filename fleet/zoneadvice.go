package fleet

// Advice tells what a zone's settings allow and hardly anybody wants; nothing
// where they are sound.
func (s *Spec) Advice(z *Zone) []string {
	set := s.Settings(z)
	if set.Serial == SerialKeep && len(z.Steered) > 0 && len(set.Primaries) == 0 && len(set.Transfer)+len(set.Notify) > 0 {
		return []string{"serial: keep with steered names: secondaries do not see that what transfers show of them has changed (export, VIPs, steering) until the content's serial is raised"}
	}
	return nil
}

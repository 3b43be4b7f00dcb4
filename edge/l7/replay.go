package l7

// replay is a copy of a body that was passed on as it came, as long as it is
// short: endpoints of HTTP/2 may turn a request away after they were sent it.
type replay struct {
	copied []byte
	whole  bool // copied is all of the body
	off    bool // it became too long, or is not wanted
}

// copyPiece keeps what is passed on. The upload's goroutine calls it.
func (r *replay) copyPiece(p []byte) {
	if r.off {
		return
	}
	if len(r.copied)+len(p) > replayed {
		r.off, r.copied = true, nil
		return
	}
	r.copied = append(r.copied, p...)
}

// complete notes that the body has ended.
func (r *replay) complete() { r.whole = !r.off }

// restLost sees whether what was read of the body was all of it, where the endpoint
// takes no more.
func (x *exchange) restLost() {
	if f, ok := x.f.(arrived); ok {
		if n, whole := f.Arrived(); whole && n == 0 {
			x.body.replay.complete()
		}
	}
}

// recoverBody says whether the whole body can still be sent, from the copy where
// it was passed on already.
func (x *exchange) recoverBody() bool {
	b := &x.body
	if b.fresh() {
		return true
	}
	if b.uploading != nil {
		if !b.ended.Load() {
			return false
		}
		<-b.uploading // which has done its work
		b.uploading = nil
	}
	if !b.replay.whole || b.failure() != nil {
		return false
	}
	b.kept, b.whole, b.touched, b.early = b.replay.copied, true, false, false
	b.ended.Store(false)
	x.h.Length = int64(len(b.kept))
	return true
}

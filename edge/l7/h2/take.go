package h2

import (
	"encoding/binary"

	"meridian/edge/l7/wire"
)

// take handles one frame. Its error ends the connection.
func (c *conn) take(f *frame) error {
	if c.open.stream != 0 && (f.kind != typeContinuation || f.stream != c.open.stream) {
		return broken(ProtocolError, "header_block")
	}
	if !c.settings && f.kind != typeSettings {
		return broken(ProtocolError, "preface")
	}
	switch f.kind {
	case typeData:
		return c.takeData(f)
	case typeHeaders:
		return c.takeHeaders(f)
	case typeContinuation:
		return c.takeContinuation(f)
	case typeReset:
		return c.takeReset(f)
	case typeSettings:
		return c.takeSettings(f)
	case typeWindowUpdate:
		return c.takeWindowUpdate(f)
	case typePing:
		return c.takePing(f)
	case typeGoAway:
		return c.takeGoAway(f)
	case typePriority:
		return c.takePriority(f)
	case typePush:
		return broken(ProtocolError, "push")
	}
	return c.guard.add(costUnknown) // frames of other kinds are ignored (RFC 9113 section 5.5)
}

func (c *conn) takeHeaders(f *frame) error {
	if f.stream == 0 {
		return broken(ProtocolError, "stream_id")
	}
	if err := f.unpad(); err != nil {
		return err
	}
	if f.has(flagPriority) {
		if len(f.payload) < 5 {
			return broken(FrameSizeError, "frame_size")
		}
		// Priorities of RFC 7540 are not heeded, but a stream that hangs
		// on itself is malformed.
		self := binary.BigEndian.Uint32(f.payload)&largestWindow == f.stream
		f.payload = f.payload[5:]
		if self {
			f.flags |= flagSelf
		}
	}
	if f.has(flagEndHeaders) {
		return c.side.head(f)
	}
	c.open, c.fields = *f, 1
	c.block = append(c.block[:0], f.payload...)
	return nil
}

// flagSelf marks, among the flags of a HEADERS frame that was read, a stream
// that depends on itself; the octet's bit has no meaning on the wire.
const flagSelf = 0x40

// takeContinuation collects a block that one frame does not hold. Its octets
// and its frames are bounded, whatever it decodes to.
func (c *conn) takeContinuation(f *frame) error {
	if c.open.stream == 0 {
		return broken(ProtocolError, "continuation")
	}
	c.fields++
	if len(c.block)+len(f.payload) > c.blockLimit {
		return broken(EnhanceYourCalm, "continuation_flood")
	}
	if len(f.payload) < 1024 && c.fields > 16 {
		return broken(EnhanceYourCalm, "continuation_flood")
	}
	c.block = append(c.block, f.payload...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	whole := c.open
	whole.payload = c.block
	c.open = frame{}
	err := c.side.head(&whole)
	if cap(c.block) > idleBuffer {
		c.block = nil
	}
	return err
}

func (c *conn) takeData(f *frame) error {
	size := len(f.payload) // padding counts (RFC 9113 section 6.9.1)
	if f.stream == 0 {
		return broken(ProtocolError, "stream_id")
	}
	if err := f.unpad(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle(f.stream) {
		return broken(ProtocolError, "stream_id")
	}
	if c.recvWindow -= size; c.recvWindow < 0 {
		return broken(FlowControlError, "window")
	}
	s := c.streams[f.stream]
	switch {
	case s == nil || s.lost:
		c.repay(size)
		brokenHere := s != nil && s.resetHere
		if s == nil {
			_, brokenHere = c.wasClosed(f.stream)
		}
		if !brokenHere {
			return c.breakStream(f.stream, StreamClosed)
		}
		return c.guard.add(costEmpty) // it was under way
	case s.received:
		c.repay(size)
		return c.resetStream(s, StreamClosed)
	}
	if c.client && !s.answered { // RFC 9113 section 8.1
		c.repay(size)
		s.malformed = wire.BadLine
		return c.resetStream(s, ProtocolError)
	}
	if len(f.payload) == 0 && !f.has(flagEndStream) {
		if err := c.guard.add(costEmpty); err != nil {
			return err
		}
	}
	if s.recvWindow -= size; s.recvWindow < 0 {
		return c.resetStream(s, FlowControlError)
	}
	if s.want >= 0 {
		if s.want -= int64(len(f.payload)); s.want < 0 || f.has(flagEndStream) && s.want != 0 {
			c.repay(size)
			return c.resetStream(s, ProtocolError)
		}
	}
	padding := size - len(f.payload) // which is read with this
	s.credit(padding)
	c.repay(padding)
	if c.client {
		// What one client leaves unread must not hold up the answers to others: its
		// stream's window bounds it.
		c.repay(len(f.payload))
	}
	s.queue.put(f.payload, c.mem)
	if f.has(flagEndStream) {
		s.received = true
	}
	s.cond.Broadcast()
	return nil
}

func (c *conn) takeReset(f *frame) error {
	switch {
	case len(f.payload) != 4:
		return broken(FrameSizeError, "frame_size")
	case f.stream == 0:
		return broken(ProtocolError, "stream_id")
	}
	c.mu.Lock()
	if c.idle(f.stream) {
		c.mu.Unlock()
		return broken(ProtocolError, "stream_id")
	}
	s := c.streams[f.stream]
	if s == nil || s.lost {
		c.mu.Unlock()
		return c.guard.add(costUnknown)
	}
	cost := costLateReset
	if !s.answered {
		cost = costReset
	}
	s.code = Code(binary.BigEndian.Uint32(f.payload))
	if c.client && s.received {
		s.ended = true // the answer is whole; the endpoint wants no more of the body
		s.cond.Broadcast()
		c.mu.Unlock()
		return nil
	}
	s.lost, s.kept = true, true
	s.cond.Broadcast()
	c.mu.Unlock()
	c.side.gone(s)
	if c.client {
		return nil // an endpoint may refuse what it will
	}
	return c.guard.add(cost)
}

func (c *conn) takeWindowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return broken(FrameSizeError, "frame_size")
	}
	n := int(binary.BigEndian.Uint32(f.payload) & largestWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.guard.add(costWindow); err != nil {
		return err
	}
	if f.stream == 0 {
		if n == 0 {
			return broken(ProtocolError, "window")
		}
		if c.sendWindow += n; c.sendWindow > largestWindow {
			return broken(FlowControlError, "window")
		}
		c.wakeWaiting()
		return nil
	}
	if c.idle(f.stream) {
		return broken(ProtocolError, "stream_id")
	}
	s := c.streams[f.stream]
	switch {
	case s == nil || s.lost:
		return nil
	case n == 0:
		return c.resetStream(s, ProtocolError)
	}
	if s.sendWindow += n; s.sendWindow > largestWindow {
		return c.resetStream(s, FlowControlError)
	}
	s.cond.Broadcast()
	return nil
}

func (c *conn) takeSettings(f *frame) error {
	switch {
	case f.stream != 0:
		return broken(ProtocolError, "stream_id")
	case f.has(flagAck):
		if len(f.payload) != 0 {
			return broken(FrameSizeError, "frame_size")
		}
		if !c.settings {
			return broken(ProtocolError, "preface")
		}
		c.mu.Lock()
		c.settingsAck = true
		c.mu.Unlock()
		return c.guard.add(costUnknown)
	case len(f.payload)%6 != 0:
		return broken(FrameSizeError, "frame_size")
	}
	first := !c.settings
	c.settings = true
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := f.payload; len(p) > 0; p = p[6:] {
		if err := c.setting(setting{binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])}); err != nil {
			return err
		}
	}
	if first {
		c.side.greeted()
	}
	c.out = appendHeader(c.out, 0, typeSettings, flagAck, 0)
	return c.answer(costSettings)
}

// setting takes one. mu is held.
func (c *conn) setting(s setting) error {
	switch s.id {
	case setPush:
		if s.value > 1 || c.client && s.value != 0 {
			return broken(ProtocolError, "settings")
		}
	case setWindow:
		if s.value > largestWindow {
			return broken(FlowControlError, "settings")
		}
		change := int(s.value) - c.firstWindow
		c.firstWindow = int(s.value)
		for _, st := range c.streams {
			if st.sendWindow += change; st.sendWindow > largestWindow {
				return broken(FlowControlError, "settings")
			}
			st.cond.Broadcast()
		}
	case setFrameSize:
		if s.value < frameSize || s.value > largestFrame {
			return broken(ProtocolError, "settings")
		}
		c.peerFrame = min(int(s.value), frameSize)
	case setConnect:
		if s.value > 1 {
			return broken(ProtocolError, "settings")
		}
	}
	c.side.settled(s)
	return nil
}

func (c *conn) takePing(f *frame) error {
	switch {
	case len(f.payload) != 8:
		return broken(FrameSizeError, "frame_size")
	case f.stream != 0:
		return broken(ProtocolError, "stream_id")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.has(flagAck) {
		c.pingSent, c.pingAnswered = false, true
		c.wakeKeeper()
		return c.guard.add(costUnknown)
	}
	c.out = appendPing(c.out, flagAck, [8]byte(f.payload))
	return c.answer(costPing)
}

func (c *conn) takeGoAway(f *frame) error {
	switch {
	case len(f.payload) < 8:
		return broken(FrameSizeError, "frame_size")
	case f.stream != 0:
		return broken(ProtocolError, "stream_id")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.side.goneAway(binary.BigEndian.Uint32(f.payload)&largestWindow, Code(binary.BigEndian.Uint32(f.payload[4:])))
	return c.guard.add(costSettings)
}

// takePriority checks and ignores: RFC 9113 section 5.3.2 has given up the
// scheme.
func (c *conn) takePriority(f *frame) error {
	switch {
	case f.stream == 0:
		return broken(ProtocolError, "stream_id")
	case len(f.payload) != 5:
		return c.breakStreamUnlocked(f.stream, FrameSizeError)
	case binary.BigEndian.Uint32(f.payload)&largestWindow == f.stream:
		return c.breakStreamUnlocked(f.stream, ProtocolError)
	}
	return c.guard.add(costPriority)
}

// breakStreamUnlocked is breakStream for a reader that does not hold mu.
func (c *conn) breakStreamUnlocked(id uint32, code Code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil && !s.lost {
		return c.resetStream(s, code)
	}
	return c.breakStream(id, code)
}

// breakStream resets a stream that has no exchange. What made it do so is
// counted: peers that provoke resets spend as little as those that send them.
// mu is held.
func (c *conn) breakStream(id uint32, code Code) error {
	c.out = appendReset(c.out, id, code)
	return c.answer(costReset)
}

// answer sends what was added to out because of a frame of that cost. A peer that
// makes answers and reads none is given up. mu is held.
func (c *conn) answer(k cost) error {
	c.hurry()
	if len(c.out) > sendHeap {
		return broken(EnhanceYourCalm, "unread_answers")
	}
	return c.guard.add(k)
}

// resetStream resets a stream for the peer's fault, and tells its exchange.
// mu is held; it is let go meanwhile.
func (c *conn) resetStream(s *stream, code Code) error {
	c.out = appendReset(c.out, s.id, code)
	c.hurry()
	s.lost, s.kept, s.resetHere, s.code = true, true, true, code
	s.cond.Broadcast()
	c.mu.Unlock()
	c.side.gone(s)
	c.mu.Lock()
	return c.guard.add(costReset)
}

package xdp

// refGate is what is known of an attack on one VIP, in plain Go, for one processor;
// times are windows. See bpf/attack.h and bpf/gate.h.
type refGate struct {
	always bool // else in an attack alone
	limit  int  // SYNs in a window that are an attack
	floor  int  // strangers that pass in a window of an attack in any case

	window, until   int  // that is counted; with which the attack ends
	syns, strangers int  // in the window
	shut            bool // since it began
	usual           int  // packets in a window in peace
	packets, before int  // for the VIP: ever, and until the window began
}

// begin begins a window. What was forwarded since the last one began is learned
// from, if there was peace.
func (g *refGate) begin(now int) {
	if now <= g.window {
		return
	}
	windows, packets := now-g.window, g.packets-g.before
	peace := g.window > 0 && g.window > g.until && !g.shut && !g.always
	g.window, g.syns, g.strangers, g.before, g.shut = now, 0, 0, g.packets, g.always
	if !peace {
		return
	}
	each, share := min(packets/windows, 2*g.usual+g.floor), min(windows, 256)
	g.usual = (each*share + g.usual*(256-share)) / 256
}

func (g *refGate) attacked(now int) bool { return now <= g.until }

// syn says whether a SYN is answered with a cookie, in place of its gateway.
func (g *refGate) syn(now int) bool {
	if g.always {
		return true
	}
	g.begin(now)
	g.syns++
	if g.syns >= g.limit || g.attacked(now) && g.syns >= g.limit/2 {
		g.until = now + 37
	}
	if !g.attacked(now) {
		g.packets++
	}
	return g.attacked(now)
}

// stranger says whether a packet that is no SYN, is of no known flow and brings no
// cookie passes. The processor lets 32 pass at a time.
func (g *refGate) stranger(now int) bool {
	if g.always || g.attacked(now) {
		g.begin(now)
		if g.strangers/32*32 >= 4*g.usual+g.floor {
			return false
		}
		g.strangers++
	}
	g.packets++
	return true
}

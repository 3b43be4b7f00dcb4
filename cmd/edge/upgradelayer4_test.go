package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"meridian/edge/xdp"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// A node with layer 4 at its device is upgraded under load by its VIP: the
// program and its tables are the next process's, and no request fails.
func TestUpgradeOfANodeWithLayer4(t *testing.T) {
	u, _ := newForwarded(t, "l4, l7", "")
	pins := u.pins
	before := bpfLink(t, pins)
	stop := u.load()
	for range 3 {
		u.more()
		if err := u.upgrade(); err != nil {
			t.Fatal(err)
		}
		if got := bpfLink(t, pins); got != before {
			t.Errorf("the program's place at the device was %s and is %s", before, got)
		}
	}
	// One that fails when it has layer 4 already: this process takes that back.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u.install(self)
	if err := u.upgrade(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("to a broken program: %v", err)
	}
	u.more()
	c := client{data: u.dir}
	u.until("layer 4 works again", func() bool { return c.ask(t.Context(), http.MethodGet, "/members", nil, new([]xdp.Member)) == nil })
	if got := bpfLink(t, pins); got != before {
		t.Errorf("the program's place at the device was %s and is %s", before, got)
	}
	u.more()
	stop()
}

// newForwarded starts a node with layer 4 at its device, whose VIP a user in another
// namespace can reach; more is put below its services.
func newForwarded(t *testing.T, roles, more string) (u *upgrading, user *netns.NS) {
	t.Helper()
	testkit.Root(t)
	u = newUpgrading(t)
	node := newNS(t, "edge")
	user = newNS(t, "client")
	err := netns.Veth(
		netns.End{NS: user, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}},
		netns.End{NS: node, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}, 1500)
	if err == nil {
		err = user.AddRoute(netip.MustParsePrefix("198.51.100.1/32"), netip.MustParseAddr("10.9.0.2"))
	}
	if err == nil {
		_, err = user.PassXDP("eth0")
	}
	if err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(u.dir, "bpf")
	if out, err := exec.Command("mkdir", pins).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	if err := unix.Mount("bpf", pins, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(pins, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	endpoint, err := node.Listen("tcp4", "10.9.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	u.serve(endpoint)
	u.vip, u.dial, u.start = "198.51.100.1", user.Dial, node.Start
	u.device, u.pins, u.roles, u.own = "eth0", pins, roles, "10.9.0.2"
	u.configure(more)
	u.run(nextFails + "=take")
	u.until("layer 4 is attached", func() bool {
		found, err := filepath.Glob(pins + "/*/link")
		return err == nil && len(found) == 1
	})
	return u, user
}

// bpfLink lists what is pinned: the link by its inode, which a new one would change.
func bpfLink(t *testing.T, pins string) string {
	t.Helper()
	var st unix.Stat_t
	found, err := filepath.Glob(pins + "/*/link")
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("links: %s", strings.Join(found, " "))
	}
	if err == nil {
		err = unix.Stat(found[0], &st)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(st.Ino)
}

func newNS(t *testing.T, name string) *netns.NS {
	t.Helper()
	n, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

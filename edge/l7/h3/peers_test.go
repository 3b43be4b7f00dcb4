package h3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meridian/edge/l7"
	"meridian/edge/l7/wire"
	"meridian/internal/testkit"
)

// gtls runs ngtcp2's client and gives what it saved and said.
func (r *rig) gtls(args ...string) (dir, said string) {
	r.t.Helper()
	dir = r.t.TempDir()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	args = append([]string{"--exit-on-all-streams-close", "--quiet", "--download=" + dir}, args...)
	cmd := exec.CommandContext(ctx, testkit.Program(r.t, "gtlsclient"), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Errorf("gtlsclient: %v", err)
	}
	return dir, string(out)
}

// ngtcp2's client gets what it asks for, whole, and sends what it has.
func TestNgtcp2(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 20<<16)
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			if string(h.Target) != "/large" {
				echo(f, h, a)
				return
			}
			_ = f.Answer(&wire.Head{Status: 200}, false)
			_ = f.Write(large)
			_ = f.End(nil)
		}
	})
	host, port := "127.0.0.1", fmt.Sprint(r.at.Port)
	url := "https://demo.test:" + port
	dir, said := r.gtls(host, port, url+"/small", url+"/large")
	if b, err := os.ReadFile(filepath.Join(dir, "small")); err != nil || string(b) != "GET /small at demo.test:"+port {
		t.Errorf("%q, %v\n%s", b, err, said)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "large")); err != nil || !bytes.Equal(b, large) {
		t.Errorf("%d octets of %d, %v", len(b), len(large), err)
	}
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, large, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, _ = r.gtls("--http-method=POST", "--data="+body, host, port, url+"/echo")
	if b, err := os.ReadFile(filepath.Join(dir, "echo")); err != nil || !bytes.Equal(b, large) {
		t.Errorf("an upload: %d octets of %d, %v", len(b), len(large), err)
	}
}

// Its connections survive that its port changes, with and without its knowing.
func TestNgtcp2Moves(t *testing.T) {
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			_ = f.Answer(&wire.Head{Status: 200}, false)
			for range 30 {
				time.Sleep(10 * time.Millisecond)
				_ = f.Write([]byte("0123456789"))
				_ = f.Flush()
			}
			_ = f.End(nil)
		}
	})
	port := fmt.Sprint(r.at.Port)
	for _, how := range [][]string{nil, {"--nat-rebinding", "--delay-stream=300ms"}} {
		dir, said := r.gtls(append(how, "--change-local-addr=100ms", "127.0.0.1", port, "https://demo.test:"+port+"/slow")...)
		if b, err := os.ReadFile(filepath.Join(dir, "slow")); err != nil || string(b) != strings.Repeat("0123456789", 30) {
			t.Errorf("%v: %d octets, %v\n%s", how, len(b), err, said)
		}
	}
	if n := r.connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// Chromium loads a page by HTTP/3, fetches with a body, and says by which
// protocol.
func TestChromium(t *testing.T) {
	chromium := testkit.Program(t, "chromium")
	page := `<p id=out>waiting</p><script>
(async () => {
  const a = await fetch("/echo", {method: "POST", body: "a body"});
  const text = await a.text();
  const how = performance.getEntriesByType("navigation")[0].nextHopProtocol;
  document.getElementById("out").textContent = "got " + text + " by " + how;
})();
</script>`
	r := start(t, func(r *rig) {
		r.serve = func(f l7.Front, h *wire.Head, a *l7.Abort) {
			if !h.Is("GET") {
				echo(f, h, a)
				return
			}
			answer := &wire.Head{Status: 200}
			answer.Add("Content-Type", "text/html")
			_ = f.Answer(answer, false)
			_ = f.Write([]byte(page))
			_ = f.End(nil)
		}
	})
	cert, err := x509.ParseCertificate(r.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pin := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(),
		"--enable-quic", fmt.Sprintf("--origin-to-force-quic-on=demo.test:%d", r.at.Port),
		"--host-resolver-rules=MAP demo.test 127.0.0.1", "--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(pin[:]),
		"--virtual-time-budget=10000", "--dump-dom", fmt.Sprintf("https://demo.test:%d/", r.at.Port)).Output()
	if want := "got a body by h3"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: no %q in %s", err, want, out)
	}
	r.faultless()
}

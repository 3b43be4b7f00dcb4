package garden_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"meridian/internal/testkit"
)

// origin is a server behind the gateway and what it has seen.
type origin struct {
	name    string
	address string
	ledger  *ledger
	log     string // file of its access log, "" for none
}

// origins starts all five.
func origins(t *testing.T) []*origin {
	t.Helper()
	return []*origin{nginx(t), haproxy(t), lighttpd(t), node(t), goServer(t)}
}

func goServer(t *testing.T) *origin {
	o := &origin{name: "go", ledger: newLedger()}
	o.address = goOrigin(t, o.ledger)
	return o
}

// start runs a program until the test ends, with its configuration in a folder
// of its own.
func start(t *testing.T, o *origin, file, config string, argv ...string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(testkit.FreePort(t, "127.0.0.1"))))
	o.log = filepath.Join(dir, "access.log")
	behind := recorder(t, o.ledger)
	_, port, _ := net.SplitHostPort(o.address)
	_, behindPort, _ := net.SplitHostPort(behind)
	config = strings.NewReplacer("DIR", dir, "PORT", port, "BEHIND", behindPort).Replace(config)
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "FILE", path)
	}
	said := new(testkit.Buffer)
	c := exec.Command(testkit.Program(t, argv[0]), argv[1:]...)
	c.Dir = dir
	c.Stderr = said
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if o.name == "haproxy" {
		out, err := os.Create(o.log)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		c.Stdout = out
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(c) })
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", o.address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not start: %s", o.name, said)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func end(c *exec.Cmd) {
	_ = c.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
	_ = c.Wait()
	late.Stop()
}

func nginx(t *testing.T) *origin {
	o := &origin{name: "nginx", ledger: newLedger()}
	start(t, o, "nginx.conf", `daemon off; master_process off; pid DIR/pid; error_log DIR/error.log;
events { worker_connections 4096; }
http {
  log_format garden '$status $request';
  access_log DIR/access.log garden;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  underscores_in_headers on; large_client_header_buffers 8 128k; client_max_body_size 0; keepalive_requests 1000000; keepalive_timeout 300s;
  server {
    listen 127.0.0.1:PORT backlog=1024;
    location / { proxy_pass http://127.0.0.1:BEHIND; proxy_set_header Host $http_host; }
  }
}
`, "nginx", "-c", "FILE", "-e", "stderr")
	return o
}

func haproxy(t *testing.T) *origin {
	o := &origin{name: "haproxy", ledger: newLedger()}
	start(t, o, "haproxy.cfg", `global
  log stdout format raw local0
  tune.bufsize 65536
  tune.http.maxhdr 1000
  maxconn 4096
defaults
  mode http
  log global
  option httplog
  option http-server-close
  timeout connect 10s
  timeout client 300s
  timeout server 300s
  retries 0
frontend f
  bind 127.0.0.1:PORT
  default_backend b
backend b
  server s 127.0.0.1:BEHIND
`, "haproxy", "-db", "-f", "FILE")
	return o
}

func lighttpd(t *testing.T) *origin {
	o := &origin{name: "lighttpd", ledger: newLedger()}
	start(t, o, "lighttpd.conf", `server.modules = ("mod_proxy", "mod_accesslog")
server.document-root = "DIR"
server.bind = "127.0.0.1"
server.port = PORT
server.errorlog = "DIR/error.log"
server.upload-dirs = ("DIR")
server.max-request-field-size = 65535
server.max-keep-alive-requests = 1000000
server.max-keep-alive-idle = 300
server.max-connections = 2000
server.max-fds = 8192
accesslog.filename = "DIR/access.log"
accesslog.format = "%s %r"
proxy.server = ("" => (("host" => "127.0.0.1", "port" => BEHIND)))
`, "lighttpd", "-D", "-f", "FILE")
	return o
}

func node(t *testing.T) *origin {
	t.Helper()
	o := &origin{name: "node", ledger: newLedger()}
	c := exec.Command(testkit.Program(t, "node"), "testdata/origin.js")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	port := 0
	if _, err := fmt.Sscanf(first, "port %d", &port); err != nil {
		t.Fatalf("node says %q", first)
	}
	o.address = fmt.Sprintf("127.0.0.1:%d", port)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var r struct {
				record
				Refused string
			}
			if err := json.Unmarshal(line, &r); err != nil {
				o.ledger.strange("node says %.200q", line)
				return
			}
			if r.Refused != "" {
				o.ledger.refused(r.Refused)
			} else {
				o.ledger.add(r.record)
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		<-read
		end(c)
	})
	return o
}

// readLog takes what the origin's access log says it refused as malformed.
func (o *origin) readLog(t *testing.T) {
	t.Helper()
	if o.log == "" {
		return
	}
	b, err := os.ReadFile(o.log)
	if err != nil {
		t.Fatal(err)
	}
	// HAProxy says PR of what it could not read, CR of what the gateway gave up.
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "400 ") || strings.Contains(line, " PR-- ") && strings.Contains(line, "<BADREQ>") {
			o.ledger.refused(strings.TrimSpace(line))
		}
	}
}

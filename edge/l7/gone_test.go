package l7

import (
	"crypto/tls"
	"io"
	"testing"
)

// A client that leaves takes its request along, though TLS says goodbye before: what
// waits to be read is no sign that it is still there.
func TestAClientThatLeavesByTLSTakesItsRequestAlong(t *testing.T) {
	at, came, gone := silent(t)
	r := newRig(t, httpsSpec(noChecks, at))
	c, err := tls.Dial("tcp", r.addr("192.0.2.1:443"), &tls.Config{InsecureSkipVerify: true, ServerName: "www.demo.test"})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, request("GET /"))
	soon(t, came, "the request comes")
	c.Close()
	soon(t, gone, "it is cut off")
}

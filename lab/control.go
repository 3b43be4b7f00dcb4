//go:build linux

package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An Order is what a visitor wants of a running demo.
type Order struct {
	Do     string  `json:"do"` // kill, restore, drain or shift
	Region string  `json:"region"`
	Share  float64 `json:"share,omitempty"` // shift: of the region's clients, 0 to 1
}

// reply is the demo's answer: a sentence, or what went wrong.
type reply struct {
	Said string `json:"said,omitempty"`
	Err  string `json:"err,omitempty"`
}

// ParseOrder reads an order as typed: a word or its first letter, the region,
// and for a shift the share in percent (50 without one).
func ParseOrder(words []string) (Order, error) {
	if len(words) < 2 {
		return Order{}, errors.New("expected kill, restore, drain or shift, and a region, as in: kill fra")
	}
	o := Order{Region: words[1], Share: 0.5}
	for _, do := range []string{"kill", "restore", "drain", "shift"} {
		if words[0] == do || words[0] == do[:1] {
			o.Do = do
		}
	}
	if o.Do == "" {
		return Order{}, fmt.Errorf("%q is not kill, restore, drain or shift", words[0])
	}
	if len(words) > 2 {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(words[2], "%"), 64)
		if err != nil || percent < 0 || percent > 100 || o.Do != "shift" || len(words) > 3 {
			return Order{}, fmt.Errorf("%q: only a shift takes one more word, a share from 0 to 100 percent", strings.Join(words[2:], " "))
		}
		o.Share = percent / 100
	}
	return o, nil
}

// obey carries an order out and says what it did.
func (l *Lab) obey(ctx context.Context, o Order) (string, error) {
	r, err := l.region(o.Region)
	if err != nil {
		return "", err
	}
	city := r.Location.City
	l.acting.Lock()
	defer l.acting.Unlock()
	switch o.Do {
	case "kill":
		return fmt.Sprintf("Killed %s (%s): its links are down and its processes gone.", o.Region, city), l.Kill(o.Region)
	case "restore":
		if l.Alive(o.Region) {
			return fmt.Sprintf("Took back every shift away from %s (%s).", o.Region, city), l.unshift(ctx, o.Region)
		}
		return fmt.Sprintf("Restored %s (%s): it takes clients again when probes from all regions agree.", o.Region, city), l.Restore(o.Region)
	case "drain":
		return fmt.Sprintf("Draining %s (%s): DNS sends its clients elsewhere and its announcements are the last choice. Take it back with: restore %s", o.Region, city, o.Region),
			l.shift(ctx, o.Region, 1, true)
	case "shift":
		return fmt.Sprintf("Shifted %.0f %% of the clients of %s (%s) elsewhere. Take it back with: restore %s", o.Share*100, o.Region, city, o.Region),
			l.shift(ctx, o.Region, o.Share, false)
	}
	return "", fmt.Errorf("%q is unknown", o.Do)
}

// socketPath is where the running demo of this user listens.
func socketPath() (string, error) {
	dir, err := base()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "control.sock"), nil
}

// Tell gives an order to the running demo of this user.
func Tell(ctx context.Context, o Order) (string, error) {
	path, err := socketPath()
	if err != nil {
		return "", err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return "", fmt.Errorf("no demo of yours is running here; start one with: gslb demo")
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		return "", fmt.Errorf("tell the demo: %w", err)
	}
	var a reply
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return "", fmt.Errorf("the demo's answer: %w", err)
	}
	if a.Err != "" {
		return "", errors.New(a.Err)
	}
	return a.Said, nil
}

// listenControl opens the demo's socket; there is one demo for each user.
func listenControl() (net.Listener, error) {
	path, err := socketPath()
	if err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, errors.New("a demo of yours is running already; end it with Ctrl-C where it runs")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// maxOrder bounds an order in octets.
const maxOrder = 1024

// serveControl carries out the orders that come by the socket until it is
// closed.
func serveControl(listener net.Listener, obey func(context.Context, Order) (string, error)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		wg.Go(func() {
			defer conn.Close()
			if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return
			}
			var o Order
			var a reply
			line, err := bufio.NewReaderSize(conn, maxOrder).ReadSlice('\n')
			if err == nil {
				err = json.Unmarshal(line, &o)
			}
			if err == nil {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				a.Said, err = obey(ctx, o)
			}
			if err != nil {
				a = reply{Err: err.Error()}
			}
			_ = json.NewEncoder(conn).Encode(a) // a visitor that has gone
		})
	}
}

package filter

import (
	"fmt"
	"strings"

	"meridian/fleet"
)

// Page is the body of an answer of the gateway's own.
type Page struct {
	Type      string
	Endpoints bool // in place of endpoints' bodies too
	body      template
	codes     [][2]int
}

// Body appends the page to b, with its variables filled in.
func (p *Page) Body(b []byte, v *Vars) []byte { return p.body.append(b, v) }

// Plain is a body without variables, and its type.
type Plain struct {
	Type string
	Body []byte
}

func contentType(given, body string) string {
	switch {
	case given != "":
		return given
	case strings.HasPrefix(strings.TrimSpace(body), "<"):
		return "text/html; charset=utf-8"
	}
	return "text/plain; charset=utf-8"
}

// Page gives the page for a status, nil where there is none. answered: it is an
// endpoint's answer.
func (s *Set) Page(code int, answered bool) *Page {
	if s == nil {
		return nil
	}
	for _, p := range s.pages {
		for _, c := range p.codes {
			if c[0] <= code && code <= c[1] {
				if answered && !p.Endpoints {
					return nil
				}
				return p
			}
		}
	}
	return nil
}

// pageVariables are those of error pages. Both are of harmless characters.
var pageVariables = map[string]variable{"status": status, "request_id": requestID}

// parsePage takes braces that are no variable as they are: pages hold styles
// and scripts.
func parsePage(s string) template {
	var out template
	for {
		at, which, is := -1, "", text
		for name, v := range pageVariables {
			if i := strings.Index(s, "{"+name+"}"); i >= 0 && (at < 0 || i < at) {
				at, which, is = i, name, v
			}
		}
		if at < 0 {
			return append(out, part{text: s})
		}
		out = append(out, part{text: s[:at]}, part{is: is})
		s = s[at+len(which)+2:]
	}
}

// text gives what a body of the Spec says: itself, or its object.
func (c *compiler) text(body, at string) string {
	if !strings.HasPrefix(body, "file:") {
		return body
	}
	data, ok := c.object(fleet.ObjectPage, body)
	if ok && len(data) > fleet.MaxPage {
		c.errs.Addf(at, "%s is longer than %d octets", body, fleet.MaxPage)
	}
	return string(data)
}

func (c *compiler) pages(list []fleet.ErrorPage, at string) []*Page {
	var out []*Page
	for i := range list {
		here := fmt.Sprintf("%s[%d]", at, i)
		p := &Page{Endpoints: list[i].Endpoints}
		for j, s := range list[i].Status {
			lo, hi, err := fleet.ParseStatus(s)
			if err != nil || lo < 400 {
				c.errs.Addf(fmt.Sprintf("%s.status[%d]", here, j), "%q: expected a status of failure such as 404 or 5xx", s)
			}
			p.codes = append(p.codes, [2]int{lo, hi})
		}
		body := c.text(list[i].Body, here+".body")
		p.Type, p.body = contentType(list[i].ContentType, body), parsePage(body)
		out = append(out, p)
	}
	return out
}

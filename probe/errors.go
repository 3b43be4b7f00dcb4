package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"meridian/fleet"
)

// failure is an error whose cause is known where it arises.
type failure struct {
	cause  fleet.Cause
	detail string
}

func (f *failure) Error() string { return f.detail }

func failf(c fleet.Cause, format string, args ...any) error {
	return &failure{c, fmt.Sprintf(format, args...)}
}

// classify puts an error under one of fleet's causes, with one line for people.
func classify(err error) (fleet.Cause, string) {
	if err == nil {
		return fleet.CauseNone, ""
	}
	return causeOf(err), line(err.Error())
}

func causeOf(err error) fleet.Cause {
	var (
		own     *failure
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		netErr  net.Error
	)
	switch {
	case errors.As(err, &own):
		return own.cause
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fleet.CauseCertExpired
	case errors.As(err, &name):
		return fleet.CauseCertName
	case errors.As(err, &verify), errors.As(err, &record), errors.As(err, &alert):
		return fleet.CauseTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return fleet.CauseTimeout
	case errors.Is(err, context.Canceled):
		return fleet.CauseOther
	case errors.Is(err, syscall.ECONNREFUSED):
		return fleet.CauseRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fleet.CauseReset
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETDOWN),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fleet.CauseUnreachable
	case strings.Contains(err.Error(), "tls: "):
		return fleet.CauseTLS
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "server gave HTTP response"),
		strings.Contains(err.Error(), "response headers exceeded"):
		return fleet.CauseProtocol
	}
	return fleet.CauseOther
}

// line cuts text down to one printable line of bounded length: it may hold
// what the peer sent.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:197], "") + "…"
	}
	return s
}

package gobgp

import (
	"context"
	"log/slog"

	bgplog "github.com/osrg/gobgp/v3/pkg/log"
)

// Logger carries gobgp's log lines into slog: its topics become attributes,
// and a fatal line ends nothing, since a library must not end its process.
type Logger struct{ to *slog.Logger }

// NewLogger gives a logger for server.LoggerOption.
func NewLogger(to *slog.Logger) *Logger { return &Logger{to} }

func (l *Logger) log(level slog.Level, msg string, fields bgplog.Fields) {
	if !l.to.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, len(fields))
	for k, v := range fields {
		switch k {
		case "Topic", bgplog.FieldFacility:
		case "Key":
			attrs = append(attrs, slog.Any("neighbor", v))
		default:
			attrs = append(attrs, slog.Any(k, v))
		}
	}
	l.to.LogAttrs(context.Background(), level, "bgp: "+msg, attrs...)
}

// Panic logs an error; see Logger.
func (l *Logger) Panic(msg string, f bgplog.Fields) { l.log(slog.LevelError, msg, f) }

// Fatal logs an error; see Logger.
func (l *Logger) Fatal(msg string, f bgplog.Fields) { l.log(slog.LevelError, msg, f) }

// Error logs an error.
func (l *Logger) Error(msg string, f bgplog.Fields) { l.log(slog.LevelError, msg, f) }

// Warn logs a warning.
func (l *Logger) Warn(msg string, f bgplog.Fields) { l.log(slog.LevelWarn, msg, f) }

// Info logs at debug level: gobgp tells there of its own workings, and what
// operators need of them the room says itself.
func (l *Logger) Info(msg string, f bgplog.Fields) { l.log(slog.LevelDebug, msg, f) }

// Debug logs at debug level.
func (l *Logger) Debug(msg string, f bgplog.Fields) { l.log(slog.LevelDebug, msg, f) }

// SetLevel does nothing: the slog handler decides.
func (l *Logger) SetLevel(bgplog.LogLevel) {}

// GetLevel says what the slog handler lets through.
func (l *Logger) GetLevel() bgplog.LogLevel {
	if l.to.Enabled(context.Background(), slog.LevelDebug) {
		return bgplog.DebugLevel
	}
	return bgplog.InfoLevel
}

package fleet

import (
	"bytes"
	"encoding"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSpec bounds a Spec document, in bytes.
const maxSpec = 16 << 20

// Parse reads a Spec document in YAML or JSON. Unknown and repeated keys,
// wrong types and words outside an enumeration are errors; all are reported at
// once, each a FieldError with its path and line. Defaults are not filled in
// and rules across fields are not checked: see Compile.
func Parse(doc []byte) (*Spec, error) {
	s, _, err := parse(doc)
	return s, err
}

// parse also gives the line of every path in the document.
func parse(doc []byte) (*Spec, map[string]int, error) {
	spec := new(Spec)
	lines, err := decodeInto(doc, spec)
	return spec, lines, err
}

// decodeInto fills the struct that v points to from a document, and gives the
// line of every path in it.
func decodeInto(doc []byte, v any) (map[string]int, error) {
	if len(doc) > maxSpec {
		return nil, &FieldError{Path: "(document)", Msg: fmt.Sprintf("is larger than %d bytes", maxSpec)}
	}
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case err == io.EOF:
		return nil, &FieldError{Path: "(document)", Msg: "is empty; expected a Spec"}
	case err != nil:
		return nil, &FieldError{Path: "(document)", Msg: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if err := dec.Decode(new(yaml.Node)); err != io.EOF {
		return nil, &FieldError{Path: "(document)", Msg: "holds more than one YAML document"}
	}
	d := decoder{lines: map[string]int{}}
	d.value(root.Content[0], reflect.ValueOf(v).Elem(), "")
	return d.lines, d.errs.Err()
}

// decoder fills Go values from YAML nodes and collects what does not fit.
type decoder struct {
	errs  Errors
	lines map[string]int
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	if path == "" {
		path = "(document)"
	}
	d.errs.list = append(d.errs.list, &FieldError{Path: path, Line: n.Line, Msg: fmt.Sprintf(format, args...)})
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	d.lines[path] = n.Line
	if n.Kind == yaml.AliasNode {
		d.fail(n, path, "YAML aliases are not allowed")
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		if v.Kind() != reflect.Pointer {
			d.fail(n, path, "has no value; leave the key out for its default")
		}
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, t, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.sequence(n, v, path)
	case reflect.Map:
		d.dictionary(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) text(n *yaml.Node, t encoding.TextUnmarshaler, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "expected a single value, found a %s", kindName(n))
		return
	}
	err := t.UnmarshalText([]byte(n.Value))
	if err == nil {
		return
	}
	switch t.(type) {
	case *netip.Addr:
		d.fail(n, path, "%q is not an address such as 192.0.2.1 or 2001:db8::1", n.Value)
	case *netip.Prefix:
		d.fail(n, path, "%q is not a prefix such as 192.0.2.0/24 or 2001:db8::/32", n.Value)
	case *netip.AddrPort:
		d.fail(n, path, "%q is not ADDRESS:PORT such as 192.0.2.1:80 or [2001:db8::1]:80", n.Value)
	default:
		d.fail(n, path, "%s", err)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "expected keys and values, found a %s", kindName(n))
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		field, ok := fields[key.Value]
		switch {
		case !ok:
			d.fail(key, at, "unknown key; expected one of %s", strings.Join(sortedKeys(fields), ", "))
			continue
		case seen[key.Value]:
			d.fail(key, at, "key is given twice")
			continue
		}
		seen[key.Value] = true
		d.value(val, v.FieldByIndex(field.Index), at)
		d.noZero(val, field, v.FieldByIndex(field.Index), at)
	}
}

// noZero refuses a number or duration of 0 where that would stand for the
// default: who writes 0 means something else. Where 0 has a meaning of its own
// the field is a pointer, or 0 is its default.
func (d *decoder) noZero(n *yaml.Node, f reflect.StructField, v reflect.Value, path string) {
	def := f.Tag.Get("default")
	if def == "" || strings.HasPrefix(def, "0") || !v.IsZero() || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint16, reflect.Uint32:
		if text := strings.TrimRight(n.Value, "0smhnuµ."); text == "" || text == "-" {
			d.fail(n, path, "0 is not allowed; leave the key out for its default (%s)", def)
		}
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "expected a list, found a %s", kindName(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.value(c, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func (d *decoder) dictionary(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "expected keys and values, found a %s", kindName(n))
		return
	}
	out := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i], join(path, n.Content[i].Value)
		k := reflect.ValueOf(key.Value)
		if out.MapIndex(k).IsValid() {
			d.fail(key, at, "key is given twice")
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Content[i+1], e, at)
		out.SetMapIndex(k, e)
	}
	v.Set(out)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "expected %s, found a %s", typeName(v.Type()), kindName(n))
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(n.Value)
		if e, ok := v.Interface().(Enum); ok && !contains(e.Values(), n.Value) {
			d.fail(n, path, "%q is unknown; expected one of %s", n.Value, strings.Join(e.Values(), ", "))
		}
		return
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		d.fail(n, path, "%q is not %s", n.Value, typeName(v.Type()))
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	return "single value"
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a text"
	case reflect.Uint16:
		return "a whole number from 0 to 65535"
	case reflect.Uint32:
		return "a whole number from 0 to 4294967295"
	}
	return "a whole number"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fieldsOf maps the keys of a struct to its fields, those of embedded structs
// among them.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	m := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key != "" && key != "-" {
			m[key] = f
		}
	}
	return m
}

func sortedKeys(m map[string]reflect.StructField) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func contains[T comparable](list []T, s T) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

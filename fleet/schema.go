package fleet

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

//go:generate go run gen/main.go

// Schema gives the JSON Schema (draft 2020-12) of a Spec, made from the types.
func Schema() []byte {
	root := schemaOf(reflect.TypeFor[Spec]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Meridian Spec"
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("fleet: a schema is plain maps: " + err.Error())
	}
	return append(b, '\n')
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func schemaOf(t reflect.Type) map[string]any {
	if t.Kind() == reflect.Pointer {
		return schemaOf(t.Elem())
	}
	if e, ok := reflect.Zero(t).Interface().(Enum); ok {
		return map[string]any{"type": "string", "enum": e.Values()}
	}
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Struct:
		props := map[string]any{}
		for _, f := range schemaFields(t) {
			p := schemaOf(f.typ)
			p["description"] = f.doc
			props[f.key] = p
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": props}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	}
	return map[string]any{"type": "integer"}
}

type schemaField struct {
	key, doc, def string
	typ           reflect.Type
}

func schemaFields(t reflect.Type) []schemaField {
	var out []schemaField
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			continue // its fields follow
		}
		out = append(out, schemaField{key: key, doc: f.Tag.Get("doc"), def: f.Tag.Get("default"), typ: f.Type})
	}
	return out
}

// Reference gives the configuration reference in Markdown, made from the types.
func Reference() []byte {
	var b strings.Builder
	b.WriteString("# Configuration reference\n\n" +
		"<!-- Generated from the types in fleet by `go generate ./fleet`. -->\n\n" +
		"A Spec is one YAML (or JSON) document. Unknown keys are errors. `gslb check FILE` prints every\n" +
		"error with its line and path, or a summary. The same as a JSON Schema: [spec.schema.json](spec.schema.json).\n")
	type section struct {
		path string
		typ  reflect.Type
	}
	queue := []section{{"", reflect.TypeFor[Spec]()}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		title := s.path
		if title == "" {
			title = "The document"
		}
		fmt.Fprintf(&b, "\n## %s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", title)
		for _, f := range schemaFields(s.typ) {
			name, below := referenceType(f.typ)
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.key, name, cell(f.def), cell(f.doc))
			if below != nil {
				at := join(s.path, f.key)
				if strings.HasPrefix(name, "list") {
					at += "[]"
				}
				queue = append(queue, section{at, below})
			}
		}
	}
	return []byte(b.String())
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

// referenceType names a type for people; below is the struct to describe next.
func referenceType(t reflect.Type) (name string, below reflect.Type) {
	if t.Kind() == reflect.Pointer {
		return referenceType(t.Elem())
	}
	if e, ok := reflect.Zero(t).Interface().(Enum); ok {
		return strings.Join(e.Values(), ", "), nil
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration", nil
	case reflect.TypeFor[Secret]():
		return "secret reference", nil
	}
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		return "text", nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return "mapping", t
	case reflect.Slice:
		n, below := referenceType(t.Elem())
		return "list of " + n, below
	case reflect.Map:
		n, _ := referenceType(t.Elem())
		return "mapping of id to " + n, nil
	}
	return strings.TrimPrefix(strings.TrimPrefix(typeName(t), "a "), "an "), nil
}

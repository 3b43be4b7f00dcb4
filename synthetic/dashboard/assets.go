package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed assets
var files embed.FS

// assetPath is where the assets are served: below it a folder named for the
// content of all of them, so that what a browser keeps is never out of date,
// and modules import each other by relative name.
const assetPath = "/dashboard/assets/"

// inPage are the assets that are part of the page and not served alone.
var inPage = map[string]bool{"page.html": true, "world.svg": true}

var assetTypes = map[string]string{
	".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
	".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8",
}

// asset is one file, plain and compressed. Zipped is nil where that gains
// nothing.
type asset struct {
	contentType   string
	etag          string
	plain, zipped []byte
}

// assets are all files by name, and the hash of them all.
type assets struct {
	build  string
	byName map[string]asset
}

func loadAssets() (*assets, error) {
	out := &assets{byName: map[string]asset{}}
	all := sha256.New()
	err := fs.WalkDir(files, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		base := strings.TrimPrefix(name, "assets/")
		sum := sha256.Sum256(data)
		fmt.Fprintf(all, "%s %x\n", base, sum)
		if inPage[base] {
			return nil
		}
		a := asset{contentType: assetTypes[path.Ext(base)], etag: `W/"` + hex.EncodeToString(sum[:8]) + `"`, plain: data}
		if a.contentType == "" {
			return fmt.Errorf("asset %s: no content type is known for it", base)
		}
		if z := zip(data, gzip.BestCompression); len(z) < len(data)*9/10 {
			a.zipped = z
		}
		out.byName[base] = a
		return nil
	})
	out.build = hex.EncodeToString(all.Sum(nil)[:6])
	return out, err
}

// zip compresses with gzip; writing to memory cannot fail.
func zip(data []byte, level int) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, level)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// ServeHTTP serves BUILD/NAME below assetPath.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	build, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, assetPath), "/")
	file, ok := a.byName[name]
	if !ok || build != a.build {
		http.NotFound(w, r)
		return
	}
	head := w.Header()
	head.Set("Content-Type", file.contentType)
	head.Set("Cache-Control", "public, max-age=31536000, immutable")
	head.Set("ETag", file.etag)
	data := file.plain
	if file.zipped != nil {
		head.Set("Vary", "Accept-Encoding")
		if takesGzip(r) {
			head.Set("Content-Encoding", "gzip")
			data = file.zipped
		}
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
}

// takesGzip reads Accept-Encoding (RFC 9110 section 12.5.3).
func takesGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, _ := strings.Cut(part, ";")
		if strings.TrimSpace(coding) == "gzip" {
			q := strings.ReplaceAll(params, " ", "")
			return strings.Trim(strings.TrimPrefix(q, "q="), "0.") != "" || !strings.HasPrefix(q, "q=")
		}
	}
	return false
}

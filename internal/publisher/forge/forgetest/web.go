package forgetest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"
)

func drain(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

func page(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

const signInPage = "<!DOCTYPE html>\n<html lang=\"en-US\"><head><title>Sign in</title></head><body></body></html>\n"

// web serves everything except the API: downloads, and the pages in front of them.
func (s *Server) web(w http.ResponseWriter, r *http.Request) {
	account, refused := s.account(r)
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "token ")
	switch {
	case r.URL.Path == "/user/login", r.URL.Path == "/user/settings/change_password":
		page(w, http.StatusOK, signInPage)
		return
	case token == Blocked:
		page(w, http.StatusOK, "<!DOCTYPE html>\n<html><head><title>Sign-in prohibited</title></head></html>\n")
		return
	case token == Stale:
		http.Redirect(w, r, s.url+"/user/settings/change_password", http.StatusSeeOther)
		return
	case s.SignIn && !account.signed:
		http.Redirect(w, r, s.url+"/user/login", http.StatusSeeOther)
		return
	case refused != nil && refused.status == http.StatusUnauthorized:
		account.reads = !s.Private // a token that nobody has is none
	case refused != nil:
		http.Error(w, "scopedAccessCheck", http.StatusForbidden)
		return
	}
	if !account.reads || s.NoReleases {
		page(w, http.StatusNotFound, "<!DOCTYPE html>\n<html><head><title>Page Not Found</title></head></html>\n")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if uuid, ok := strings.CutPrefix(r.URL.Path, "/attachments/"); ok {
		for _, rel := range s.releases {
			for _, a := range rel.Assets {
				if a.UUID == uuid {
					serve(w, r, a)
					return
				}
			}
		}
	}
	rest, _ := strings.CutPrefix(r.URL.Path, Repo+"/releases/download/")
	tag, name, _ := strings.Cut(rest, "/")
	for _, rel := range s.releases {
		if rel.Tag != tag || rel.isTag || rel.Draft && !account.writes {
			continue
		}
		for _, a := range rel.Assets {
			if a.Name == name {
				serve(w, r, a)
				return
			}
		}
	}
	http.Error(w, "Not found.", http.StatusNotFound)
}

// serve sends an asset, or a part of it.
func serve(w http.ResponseWriter, r *http.Request, a asset) {
	w.Header().Set("ETag", `"`+a.UUID+`"`)
	if kind := http.DetectContentType(a.data); strings.HasPrefix(kind, "text/") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	http.ServeContent(w, r, a.Name, time.Time{}, bytes.NewReader(a.data))
}

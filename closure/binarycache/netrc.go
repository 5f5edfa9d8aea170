package binarycache

import (
	"errors"
	"fmt"
	"strings"
)

// Netrc has names and passwords for hosts, as the file of curl and ftp that Nix reads, too.
type Netrc []Login

// A Login is for one host, or with an empty Machine for all others.
type Login struct {
	Machine, User, Password string
}

// ParseNetrc reads a netrc: words machine NAME or default, then login NAME and password WORD.
// The words may be in double quotes, with backslashes before special characters.
// Macros are skipped.
func ParseNetrc(text string) (Netrc, error) {
	var n Netrc
	words, err := netrcWords(text)
	if err != nil {
		return nil, fmt.Errorf("binarycache: parse netrc: %w", err)
	}
	for len(words) > 0 {
		key := words[0]
		words = words[1:]
		if key == "default" {
			n = append(n, Login{})
			continue
		}
		if len(words) == 0 {
			return nil, fmt.Errorf("binarycache: parse netrc: nothing follows %q", shorten(key))
		}
		value := words[0]
		words = words[1:]
		if key != "machine" && len(n) == 0 {
			return nil, fmt.Errorf("binarycache: parse netrc: %q comes before a machine", shorten(key))
		}
		switch key {
		case "machine":
			n = append(n, Login{Machine: value})
		case "login":
			n[len(n)-1].User = value
		case "password":
			n[len(n)-1].Password = value
		case "account":
		default:
			return nil, fmt.Errorf("binarycache: parse netrc: unknown word %q", shorten(key))
		}
	}
	return n, nil
}

// Find returns what there is for a host.
func (n Netrc) Find(host string) (user, password string, ok bool) {
	for _, l := range n {
		if l.Machine == "" || strings.EqualFold(l.Machine, host) {
			return l.User, l.Password, true
		}
	}
	return "", "", false
}

// netrcWords splits a netrc, without comments and macros.
func netrcWords(text string) (words []string, err error) {
	macro := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if macro {
			macro = line != ""
			continue
		}
		for line != "" && line[0] != '#' {
			var word string
			if word, line, err = netrcWord(line); err != nil {
				return nil, err
			}
			if macro = word == "macdef"; macro {
				break
			}
			words = append(words, word)
			line = strings.TrimSpace(line)
		}
	}
	return words, nil
}

func netrcWord(line string) (word, rest string, err error) {
	if line[0] != '"' {
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		return line[:end], line[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			return b.String(), line[i+1:], nil
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("a quotation mark is missing")
}

package main

import (
	"net/url"
	"testing"
)

func TestSecretsOfAddressesAreNotShown(t *testing.T) {
	u, err := url.Parse("https://me:secret@storage.example.org/blob?X-Signature=secret")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shownURL(u), "https://me:xxxxx@storage.example.org/blob?..."; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

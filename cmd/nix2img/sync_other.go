//go:build !linux

package main

import "os"

func beginSync(f *os.File, off, n int64) {}

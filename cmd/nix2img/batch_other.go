//go:build !linux

package main

func beBatch() {}

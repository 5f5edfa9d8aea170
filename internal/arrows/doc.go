// Package arrows holds the test of who may import whom,
// and of what library packages may not use.
package arrows

package tempfile

import "os"

// Unnamed returns a file in dir, for reading and writing by its user alone, that is gone when it is closed
// or its process ends. An empty dir means that of the system.
//
// A file system that must have a name for every file lets it have one:
// then [RemoveUnfinished] removes the file, or a later Unnamed in the same directory.
func Unnamed(dir string) (*os.File, error) { return unnamed(dir, openUnnamed, os.Remove) }

func unnamed(dir string, open func(dir string) (*os.File, error), remove func(name string) error) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	if f, err := open(dir); err == nil {
		return f, nil
	}
	f, err := Create(dir, Prefix, "", 0o600)
	if err != nil {
		return nil, err
	}
	if remove(f.Name()) != nil {
		unfinished.add(f.Name())
		Sweep(dir, Prefix, os.Geteuid())
	}
	return f, nil
}

package image

import "strings"

// addScripts adds what sets the environment, and what starts the image's program.
//
// SingularityCE and Apptainer evaluate the scripts in .singularity.d/env by themselves, in the order of their names,
// with an interpreter that has a shell's builtins and no commands.
// When they make a SIF of an image in another format
// they write 01-base, 90-environment, 95-apps, 99-base and 99-runtimevars anew,
// so those cannot have anything of our own.
func (r *Resolved) addScripts(t *baseTree) error {
	const env = ".singularity.d/env/"
	t.write(env+"10-nix2img.sh", 0o755, envScript(r.Config.Env))
	t.write(env+"99-base.sh", 0o755, baseScript)
	t.write(env+"99-nix2img.sh", 0o755, r.driverScript())

	var lines strings.Builder
	for _, kv := range r.OCIEnv() {
		if _, value, _ := strings.Cut(kv, "="); isPlain(value) {
			lines.WriteString(kv + "\n")
		}
	}
	t.write("etc/environment", 0o644, lines.String())
	t.write("ch/environment", 0o644, lines.String())

	labels := r.Config.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	data, err := encodeJSON(labels)
	if err != nil {
		return err
	}
	t.write(".singularity.d/labels.json", 0o644, string(data))

	if !r.HasShell() {
		t.write(".singularity.d/runscript", 0o755, r.runscript(selfInterpreted))
		return nil
	}
	t.write(".singularity.d/runscript", 0o755, r.runscript(""))
	t.write(".singularity.d/startscript", 0o755, "#!/bin/sh\n# An instance of this image starts nothing by itself.\n")
	t.write(".singularity.d/test", 0o755, "#!/bin/sh\n# This image has no test.\n")
	for _, a := range actions {
		t.write(".singularity.d/actions/"+a.name, 0o755, actionProlog+a.text)
	}
	t.write("etc/rc", 0o755, r.enrootScript())
	return nil
}

// quote returns s as one literal word for any POSIX shell.
// A single quote becomes one in double quotes, not one behind a backslash:
// the interpreter of SingularityCE and Apptainer keeps the backslash in what follows export.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }

func quoteAll(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return strings.Join(quoted, " ")
}

func envScript(env []string) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# The environment of this image.\n")
	for _, kv := range env {
		key, value, _ := strings.Cut(kv, "=")
		b.WriteString("export " + key + "=" + quote(value) + "\n")
	}
	return b.String()
}

// baseScript does what the scripts of this name do everywhere.
// It must be there: right after it runtimes set what the user asks for by --env.
const baseScript = `#!/bin/sh
# Lets programs find the libraries that the runtime brings along.
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/` + libsDir + `"
export LD_LIBRARY_PATH
`

// selfInterpreted has the line by which SingularityCE and Apptainer know a runscript
// that they interpret by themselves, without a shell in the image.
// It is the one that evaluates the command line in images made from OCI ones.
const selfInterpreted = `# The image has no shell. The line below, which is never reached,
# tells the runtime to interpret this script itself.
if false; then
eval "set ${SINGULARITY_OCI_RUN}"
fi
`

// runscript returns what starts the image's program.
func (r *Resolved) runscript(prolog string) string {
	return "#!/bin/sh\n" + prolog + r.changeDir() + r.start(noProgram)
}

// enrootScript returns the script that enroot runs in a new container.
func (r *Resolved) enrootScript() string {
	return "#!/bin/sh\n" + r.changeDir() +
		"if [ -f /etc/rc.local ]; then\n    . /etc/rc.local\nfi\n" +
		r.start("set -- /bin/sh")
}

func (r *Resolved) changeDir() string {
	if r.Config.WorkingDir == "" {
		return ""
	}
	return "cd " + quote(r.Config.WorkingDir) + " || exit 1\n"
}

// noProgram is what a runscript does when there is nothing to start.
const noProgram = `echo 'This image starts no program by itself.' >&2
    echo 'Give the name of a program and its arguments after the name of the image.' >&2
    exit 1`

// start returns the lines that replace the shell with the image's program.
// otherwise is for when there is none, and no arguments.
func (r *Resolved) start(otherwise string) string {
	c := &r.Config
	exec := "exec \"$@\"\n"
	if len(c.Entrypoint) > 0 {
		exec = "exec " + quoteAll(c.Entrypoint) + " \"$@\"\n"
		otherwise = ""
	}
	if len(c.Cmd) > 0 {
		otherwise = "set -- " + quoteAll(c.Cmd)
	}
	if otherwise == "" {
		return exec
	}
	return "if [ \"$#\" -eq 0 ]; then\n    " + otherwise + "\nfi\n" + exec
}

const actionProlog = `#!/bin/sh
for __n2i_script in /.singularity.d/env/*.sh; do
    if [ -f "$__n2i_script" ]; then
        . "$__n2i_script"
    fi
done
unset __n2i_script
`

// actions are scripts that runtimes before SingularityCE 3.6 run in the container.
// Later ones have their own.
var actions = []struct{ name, text string }{
	{"exec", "exec \"$@\"\n"},
	{"run", "exec /.singularity.d/runscript \"$@\"\n"},
	{"shell", "exec \"${SINGULARITY_SHELL:-/bin/sh}\" \"$@\"\n"},
	{"start", "kill -CONT 1\nexec /.singularity.d/startscript \"$@\"\n"},
	{"test", "exec /.singularity.d/test \"$@\"\n"},
}

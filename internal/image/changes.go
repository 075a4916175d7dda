package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrChange is wrapped by errors about -c instructions.
var ErrChange = errors.New("bad change")

// Instructions are those that a change may have, as docker commit takes them.
var Instructions = []string{"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}

// Apply changes the configuration by instructions in Dockerfile syntax, each
// string one or more lines. What is set wins over what was there; ENV, EXPOSE,
// LABEL, VOLUME and ONBUILD add to it; an ENTRYPOINT drops a CMD that was not
// set by the same changes.
func (c *RunConfig) Apply(changes []string) error {
	cmdSet := false
	for _, change := range changes {
		joined := strings.ReplaceAll(change, "\\\n", "")
		for line := range strings.Lines(joined) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := c.applyLine(line, &cmdSet); err != nil {
				return fmt.Errorf("%w %q: %w", ErrChange, line, err)
			}
		}
	}
	return nil
}

func splitInstruction(line string) (name, args string) {
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return strings.ToUpper(line), ""
	}
	return strings.ToUpper(line[:i]), strings.TrimSpace(line[i:])
}

func (c *RunConfig) applyLine(line string, cmdSet *bool) error {
	name, args := splitInstruction(line)
	if !slices.Contains(Instructions, name) {
		return fmt.Errorf("%s is not a valid change command; use one of %s", name, strings.Join(Instructions, ", "))
	}
	if args == "" {
		return fmt.Errorf("%s needs an argument", name)
	}
	switch name {
	case "CMD":
		c.Cmd, c.ArgsEscaped = c.command(args), false
		*cmdSet = true
	case "ENTRYPOINT":
		c.Entrypoint = c.command(args)
		if !*cmdSet {
			c.Cmd = nil
		}
	case "ENV":
		return c.setEnv(args)
	case "LABEL":
		return c.setLabels(args)
	case "EXPOSE":
		return c.expose(args)
	case "VOLUME":
		return c.addVolumes(args)
	case "USER":
		return c.setOne(&c.User, args)
	case "STOPSIGNAL":
		return c.setSignal(args)
	case "WORKDIR":
		return c.setWorkdir(args)
	case "ONBUILD":
		return c.onBuild(args)
	case "HEALTHCHECK":
		return c.setHealthcheck(args)
	}
	return nil
}

// command reads the exec form (a JSON array) or the shell form.
func (c *RunConfig) command(args string) []string {
	if list, ok := jsonArray(args); ok {
		return list
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), args)
}

func jsonArray(s string) ([]string, bool) {
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	list := []string{}
	if err := json.Unmarshal([]byte(s), &list); err != nil || list == nil {
		return nil, false
	}
	return list, true
}

// env looks up a variable of the configuration.
func (c *RunConfig) env(name string) (string, bool) {
	for _, kv := range c.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v, true
		}
	}
	return "", false
}

func (c *RunConfig) setEnv(args string) error {
	pairs, err := keyValues(args, c.env)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		kv := p[0] + "=" + p[1]
		i := slices.IndexFunc(c.Env, func(old string) bool { return strings.HasPrefix(old, p[0]+"=") })
		if i >= 0 {
			c.Env[i] = kv
		} else {
			c.Env = append(c.Env, kv)
		}
	}
	return nil
}

func (c *RunConfig) setLabels(args string) error {
	pairs, err := keyValues(args, c.env)
	if err != nil {
		return err
	}
	if c.Labels == nil {
		c.Labels = make(map[string]string)
	}
	for _, p := range pairs {
		c.Labels[p[0]] = p[1]
	}
	return nil
}

// expose adds PORT[-PORT][/PROTOCOL]...
func (c *RunConfig) expose(args string) error {
	words, err := splitWords(args, c.env)
	if err != nil {
		return err
	}
	for _, w := range words {
		ports, proto, ok := strings.Cut(w, "/")
		if !ok {
			proto = "tcp"
		}
		proto = strings.ToLower(proto)
		if proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fmt.Errorf("unknown protocol %q of port %s: use tcp, udp or sctp", proto, w)
		}
		from, to, ranged := strings.Cut(ports, "-")
		if !ranged {
			to = from
		}
		lo, err1 := strconv.ParseUint(from, 10, 16)
		hi, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || lo > hi || lo == 0 {
			return fmt.Errorf("%q is not a port (1 to 65535) or a range of ports", ports)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = make(map[string]struct{})
		}
		for p := lo; p <= hi; p++ {
			c.ExposedPorts[strconv.FormatUint(p, 10)+"/"+proto] = struct{}{}
		}
	}
	return nil
}

func (c *RunConfig) addVolumes(args string) error {
	list, ok := jsonArray(args)
	if !ok {
		var err error
		if list, err = splitWords(args, c.env); err != nil {
			return err
		}
	}
	for _, v := range list {
		if strings.TrimSpace(v) == "" {
			return errors.New("a volume needs a path")
		}
		if c.Volumes == nil {
			c.Volumes = make(map[string]struct{})
		}
		c.Volumes[v] = struct{}{}
	}
	return nil
}

// setOne sets a field that takes one word.
func (c *RunConfig) setOne(field *string, args string) error {
	words, err := splitWords(args, c.env)
	if err != nil {
		return err
	}
	if len(words) != 1 || words[0] == "" {
		return fmt.Errorf("it takes one argument, not %d", len(words))
	}
	*field = words[0]
	return nil
}

func (c *RunConfig) setSignal(args string) error {
	var s string
	if err := c.setOne(&s, args); err != nil {
		return err
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return fmt.Errorf("%d is not a signal", n)
		}
	} else if !validSignal(name) {
		return fmt.Errorf("%q is not a signal", s)
	}
	c.StopSignal = s
	return nil
}

func (c *RunConfig) setWorkdir(args string) error {
	dir, err := expand(args, c.env)
	if err != nil {
		return err
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", c.WorkingDir, dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

func (c *RunConfig) onBuild(args string) error {
	switch name, _ := splitInstruction(args); name {
	case "ONBUILD", "FROM", "MAINTAINER":
		return fmt.Errorf("%s is not allowed as an ONBUILD trigger", name)
	}
	c.OnBuild = append(c.OnBuild, args)
	return nil
}

func (c *RunConfig) setHealthcheck(args string) error {
	h := &Healthcheck{}
	rest := args
	for strings.HasPrefix(rest, "--") {
		flag, more, _ := strings.Cut(rest, " ")
		if err := h.flag(flag[2:]); err != nil {
			return err
		}
		rest = strings.TrimSpace(more)
	}
	kind, cmd := splitInstruction(rest)
	switch {
	case kind == "NONE" && cmd == "" && rest == args:
		h.Test = []string{"NONE"}
	case kind == "CMD" && cmd != "":
		if list, ok := jsonArray(cmd); ok {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", cmd}
		}
	default:
		return errors.New("it is HEALTHCHECK NONE or HEALTHCHECK [--interval=T] [--timeout=T] [--start-period=T] [--start-interval=T] [--retries=N] CMD COMMAND")
	}
	c.Healthcheck = h
	return nil
}

func (h *Healthcheck) flag(flag string) error {
	key, value, _ := strings.Cut(flag, "=")
	if key == "retries" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("--retries=%s is not a count", value)
		}
		h.Retries = n
		return nil
	}
	field := map[string]*time.Duration{
		"interval": &h.Interval, "timeout": &h.Timeout,
		"start-period": &h.StartPeriod, "start-interval": &h.StartInterval,
	}[key]
	if field == nil {
		return fmt.Errorf("unknown flag --%s", key)
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > 0 && d < time.Millisecond {
		return fmt.Errorf("--%s=%s is not a duration of at least 1ms, such as 30s", key, value)
	}
	*field = d
	return nil
}

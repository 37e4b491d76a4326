// Drives the real libcni through tests/recorded/scenarios.json with tests/recorder as every plugin, and prints what the plugins saw and what came of each step.
// Its output is tests/recorded/libcni-1.3.0.jsonl, which the Rust caller is compared with. Needs Go 1.21 or newer and the module; no test runs it:
//
//	cd testbed/libcni/witness && go run . ../tests/recorder ../tests/recorded/scenarios.json >../tests/recorded/libcni-1.3.0.jsonl
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

type step struct {
	Do             string
	ID             string
	Ifname         string
	Args           [][2]string
	CapabilityArgs map[string]interface{}
	Valid          *[][2]string
}

type scenario struct {
	Name    string
	List    json.RawMessage
	Answers map[string]json.RawMessage
	Steps   []step
}

type outcome struct {
	Of     string            `json:"of"`
	Do     string            `json:"do"`
	Failed bool              `json:"failed"`
	Code   *uint             `json:"code"`
	Result json.RawMessage   `json:"result"`
	Calls  []json.RawMessage `json:"calls"`
	Cache  []json.RawMessage `json:"cache"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	text, err := os.ReadFile(os.Args[2])
	must(err)
	var scenarios []scenario
	must(json.Unmarshal(text, &scenarios))
	encoder := json.NewEncoder(os.Stdout)
	for _, scenario := range scenarios {
		for _, outcome := range play(scenario) {
			outcome.Of = scenario.Name
			must(encoder.Encode(outcome))
		}
	}
}

func play(s scenario) []outcome {
	home, err := os.MkdirTemp("", "witness")
	must(err)
	defer os.RemoveAll(home)
	recorder, err := os.ReadFile(os.Args[1])
	must(err)
	for _, name := range []string{"first", "second", "third"} {
		must(os.WriteFile(filepath.Join(home, name), recorder, 0o755))
		must(os.WriteFile(filepath.Join(home, name+".VERSION"), []byte(`{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}`), 0o644))
	}
	for name, answer := range s.Answers {
		must(os.WriteFile(filepath.Join(home, name), answer, 0o644))
	}
	list, err := libcni.NetworkConfFromBytes(s.List)
	must(err)
	cni := libcni.NewCNIConfigWithCacheDir([]string{home}, filepath.Join(home, "cache"), nil)
	var outcomes []outcome
	for _, step := range s.Steps {
		outcomes = append(outcomes, take(cni, list, step, home))
	}
	return outcomes
}

func take(cni *libcni.CNIConfig, list *libcni.NetworkConfigList, s step, home string) outcome {
	ctx := context.Background()
	rt := &libcni.RuntimeConf{ContainerID: s.ID, NetNS: "/run/netns/pod", IfName: s.Ifname, Args: s.Args, CapabilityArgs: s.CapabilityArgs}
	out := outcome{Do: s.Do, Calls: []json.RawMessage{}, Cache: []json.RawMessage{}}
	var err error
	switch s.Do {
	case "validate":
		_, err = cni.ValidateNetworkList(ctx, list)
	case "status":
		err = cni.GetStatusNetworkList(ctx, list)
	case "check":
		err = cni.CheckNetworkList(ctx, list, rt)
	case "del":
		err = cni.DelNetworkList(ctx, list, rt)
	case "add":
		var result types.Result
		if result, err = cni.AddNetworkList(ctx, list, rt); err == nil {
			out.Result, err = json.Marshal(result)
		}
	case "gc":
		var args *libcni.GCArgs
		if s.Valid != nil {
			args = &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
			for _, valid := range *s.Valid {
				args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: valid[0], IfName: valid[1]})
			}
		}
		err = cni.GCNetworkList(ctx, list, args)
	}
	out.Failed = err != nil
	var plugin *types.Error
	if errors.As(err, &plugin) {
		out.Code = &plugin.Code
	}
	calls, _ := os.ReadFile(filepath.Join(home, "calls"))
	os.Remove(filepath.Join(home, "calls"))
	for _, line := range bytes.Split(bytes.TrimSpace(calls), []byte("\n")) {
		if len(line) > 0 {
			out.Calls = append(out.Calls, json.RawMessage(strings.ReplaceAll(string(line), home, "HOME")))
		}
	}
	files, _ := filepath.Glob(filepath.Join(home, "cache", "results", "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(err)
		out.Cache = append(out.Cache, text)
	}
	return out
}

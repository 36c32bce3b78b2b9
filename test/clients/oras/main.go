// Command oras-client does with the oras library what the oras command does: push, pull, attach,
// discover, index and cp. It prints the result as JSON. Registries are spoken to over plain HTTP.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/file"
	"oras.land/oras-go/v2/registry/remote"
)

const usage = `usage:
  oras-client push <reference> <artifact type> <file>…
  oras-client pull <reference> <folder>
  oras-client attach <reference of the subject> <artifact type> <file>…
  oras-client discover <reference> [artifact type]
  oras-client index <reference> <tag or digest in the same repository>…
  oras-client cp <reference> <reference>     with all referrers, also of an index's manifests`

func main() {
	result, err := run(context.Background(), os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (any, error) {
	if len(args) < 2 {
		return nil, errors.New(usage)
	}
	repository, reference, err := open(args[1])
	if err != nil {
		return nil, err
	}
	switch command, rest := args[0], args[2:]; {
	case command == "push" && len(rest) >= 2:
		return push(ctx, repository, reference, nil, rest[0], rest[1:])
	case command == "attach" && len(rest) >= 2:
		subject, err := repository.Resolve(ctx, reference)
		if err != nil {
			return nil, err
		}
		return push(ctx, repository, "", &subject, rest[0], rest[1:])
	case command == "pull" && len(rest) == 1:
		return pull(ctx, repository, reference, rest[0])
	case command == "discover" && len(rest) <= 1:
		return discover(ctx, repository, reference, rest)
	case command == "index" && len(rest) >= 1:
		return index(ctx, repository, reference, rest)
	case command == "cp" && len(rest) == 1:
		return cp(ctx, repository, reference, rest[0])
	}
	return nil, errors.New(usage)
}

// open gives the repository, told that it has the referrers API: without, the library would write
// fallback tags instead of failing.
func open(name string) (*remote.Repository, string, error) {
	repository, err := remote.NewRepository(name)
	if err != nil {
		return nil, "", err
	}
	repository.PlainHTTP = true
	return repository, repository.Reference.Reference, repository.SetReferrersCapability(true)
}

func push(ctx context.Context, to *remote.Repository, tag string, subject *ocispec.Descriptor,
	artifactType string, paths []string) (any, error) {
	files, err := file.New("")
	if err != nil {
		return nil, err
	}
	defer files.Close()
	options := oras.PackManifestOptions{Subject: subject}
	for _, path := range paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		layer, err := files.Add(ctx, filepath.Base(path), "application/octet-stream", absolute)
		if err != nil {
			return nil, err
		}
		options.Layers = append(options.Layers, layer)
	}
	root, err := oras.PackManifest(ctx, files, oras.PackManifestVersion1_1, artifactType, options)
	if err != nil {
		return nil, err
	}
	if tag == "" {
		return root, oras.CopyGraph(ctx, files, to, root, oras.DefaultCopyGraphOptions)
	}
	if err := files.Tag(ctx, root, tag); err != nil {
		return nil, err
	}
	return oras.Copy(ctx, files, tag, to, tag, oras.DefaultCopyOptions)
}

func pull(ctx context.Context, from *remote.Repository, reference, folder string) (any, error) {
	files, err := file.New(folder)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	return oras.Copy(ctx, from, reference, files, "", oras.DefaultCopyOptions)
}

func discover(ctx context.Context, in *remote.Repository, reference string, filter []string) (any, error) {
	subject, err := in.Resolve(ctx, reference)
	if err != nil {
		return nil, err
	}
	artifactType := ""
	if len(filter) > 0 {
		artifactType = filter[0]
	}
	found := []ocispec.Descriptor{}
	err = in.Referrers(ctx, subject, artifactType, func(page []ocispec.Descriptor) error {
		found = append(found, page...)
		return nil
	})
	return found, err
}

func index(ctx context.Context, in *remote.Repository, tag string, references []string) (any, error) {
	built := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	built.SchemaVersion = 2
	for _, reference := range references {
		manifest, err := in.Resolve(ctx, reference)
		if err != nil {
			return nil, err
		}
		built.Manifests = append(built.Manifests, manifest)
	}
	bytes, err := json.Marshal(built)
	if err != nil {
		return nil, err
	}
	return oras.TagBytes(ctx, in, ocispec.MediaTypeImageIndex, bytes, tag)
}

func cp(ctx context.Context, from *remote.Repository, reference, destination string) (any, error) {
	to, tag, err := open(destination)
	if err != nil {
		return nil, err
	}
	root, err := oras.ExtendedCopy(ctx, from, reference, to, tag, oras.DefaultExtendedCopyOptions)
	if err != nil || root.MediaType != ocispec.MediaTypeImageIndex {
		return root, err
	}
	children, err := content.Successors(ctx, from, root)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		err := oras.ExtendedCopyGraph(ctx, from, to, child, oras.DefaultExtendedCopyGraphOptions)
		if err != nil {
			return nil, err
		}
	}
	return root, nil
}

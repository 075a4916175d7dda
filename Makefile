# Thin names over scripts/: everything here can be run by hand as well.

.PHONY: help build demo test bench lint fuzz clean

help: ## Show the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

build: ## Build the static binary ./unionfs.
	@scripts/build.sh

demo: ## Run the main job on an image embedded in the binary, in seconds.
	@scripts/demo.sh

test: ## Run everything that CI runs.
	@scripts/test.sh

bench: ## Run the Go benchmarks.
	@scripts/bench.sh

lint: ## Check formatting, go vet and golangci-lint.
	@scripts/lint.sh

fuzz: ## Fuzz for FUZZTIME each (default 60s): Go fuzz targets and the differential test.
	@scripts/fuzz.sh

clean: ## Remove what build and test made in this folder.
	@rm -rf unionfs bin out

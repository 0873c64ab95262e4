# Everything a developer or CI needs. Tests and the demo run as root: they make
# network namespaces of their own and remove them.

GO       ?= go
BINARY   := bin/egress-eddie
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT   ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
PACKAGE  := github.com/capnspacehook/egress-eddie
LDFLAGS  := -X $(PACKAGE)/parent.Version=$(VERSION) -X $(PACKAGE)/parent.Commit=$(COMMIT)

# A binary built with cgo cannot drop its privileges on all threads and refuses
# to start.
export CGO_ENABLED := 0

.PHONY: build test race fuzz soak chaos figures audit demo vet packages clean

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/egress-eddie

# What the tests and the demo need of the system.
packages:
	@cmd/egress-eddie/testdata/packages

vet:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	$(GO) vet ./... ./cmd/egress-eddie/testdata/hostile
	$(GO) mod tidy -diff

# The tests, the seeds of the fuzz targets among them, and then each target for
# about ten seconds. NB: as a number of runs: a time that is up can make Go before
# 1.27 fail for no reason on a busy machine (golang/go#75804: "context deadline
# exceeded", and no input is written).
test: packages vet build
	$(GO) test -count=1 -timeout 18m ./...
	@$(MAKE) --no-print-directory fuzz FUZZTIME=300000x FUZZTIME_FuzzStreams=100000x

# The same tests with the race detector, which needs cgo and a C compiler, and
# so cannot confine: the cells' own tests are not among them, nor the parsers, which
# have one goroutine and a test of their speed, nor the speed of a configuration.
race:
	CGO_ENABLED=1 $(GO) test -race -count=1 -skip TestMillionNames ./ipc/... ./parent/... ./trafficworker/...

# Every fuzz target for FUZZTIME, or one for FUZZTIME_ and its name. Go would spend
# nearly all of a short one on making one new input smaller.
FUZZTIME ?= 60s
FUZZTIME_FuzzStreams ?= $(FUZZTIME)
fuzz:
	@start=$$(date +%s); count=0; \
	for line in $$(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sort | tr ' ' '/'); do \
		package=$$(dirname "$${line%%:*}"); target=$${line##*/}; count=$$((count + 1)); \
		time=$(FUZZTIME); test $$target != FuzzStreams || time=$(FUZZTIME_FuzzStreams); \
		echo "$$package $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $$time -fuzzminimizetime 10x "$$package" || exit 1; \
	done; \
	test $$count -gt 0 && echo "fuzzed $$count targets, $(FUZZTIME) each, in $$(($$(date +%s) - start)) s"

# Two million mutated packets for each parser, in its cell.
soak: packages
	$(GO) test -run '^$$' -bench Soak -benchtime 1x -timeout 1h ./cmd/egress-eddie

# Kills, stops and reloads while clients ask and flood. `make test` does it for 20 s.
CHAOS ?= 1h
SEED  ?= 1
chaos: packages
	$(GO) test -count=1 -run TestChaos -v -timeout 0 ./cmd/egress-eddie -chaos $(CHAOS) -chaos-seed $(SEED) | grep -v '^ *{'

# What 200,000 queued packets and 50,000 DNS queries do to the tree.
figures: packages
	$(GO) test -run '^$$' -bench Figures -benchtime 1x ./cmd/egress-eddie

# Compares the running tree with the profiles that its cells are built from.
audit: build
	$(BINARY) audit

demo: packages
	@$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/egress-eddie
	@$(GO) build -trimpath -o bin/demo ./cmd/demo
	@bin/demo $(BINARY)

clean:
	rm -rf bin

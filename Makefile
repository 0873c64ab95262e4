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

.PHONY: build test race fuzz figures audit demo vet packages clean

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/egress-eddie

# What the tests and the demo need of the system.
packages:
	@cmd/egress-eddie/testdata/packages

vet:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	$(GO) vet ./... ./cmd/egress-eddie/testdata/hostile
	$(GO) mod tidy -diff

test: packages vet build
	$(GO) test -count=1 -timeout 18m ./...

# The same tests with the race detector, which needs cgo and a C compiler, and
# so cannot confine: the cells' own tests are not among them, nor the parsers, which
# have one goroutine and a test of their speed.
race:
	CGO_ENABLED=1 $(GO) test -race -count=1 ./ipc/... ./parent/... ./trafficworker/...

# Every fuzz target for FUZZTIME.
FUZZTIME ?= 60s
fuzz:
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

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

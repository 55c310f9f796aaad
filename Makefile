# SPDX-License-Identifier: GPL-2.0
#
# Front door of the out-of-tree build and of the tools; kbuild reads Kbuild.
# `make help` lists what there is.

MAKEFLAGS += --no-builtin-rules

# A kernel tree with Rust to build against, with this machine's tools. Without
# it: the running kernel's, if it is one; else the one that tools/setup makes.
KDIR ?= $(shell d=/lib/modules/$$(uname -r)/build; \
	[ ! -e $$d/rust/libkernel.rmeta ] || echo $$d)

tools := $(CURDIR)/tools

ifneq ($(KDIR),)
kbuild = +$(tools)/check-kdir "$(KDIR)" && $(MAKE) -C "$(KDIR)" M="$(CURDIR)"
else
kbuild = $(tools)/build
endif
kbuild-flags := $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc)) \
	$(foreach v,V W KRUSTFLAGS KCFLAGS LLVM,$(if $($(v)),$(v)='$($(v))'))

.PHONY: modules
modules:
	$(kbuild) $(kbuild-flags) modules

.PHONY: modules_install
modules_install: modules
	$(tools)/install "$(KDIR)"

.PHONY: deb test-deb
deb:
	$(tools)/deb
test-deb:
	$(tools)/test deb

# On a copy, so that neither rebuilds the other's objects.
.PHONY: clippy
clippy:
	$(tools)/clippy "$(KDIR)"

.PHONY: rust-analyzer
rust-analyzer: modules
	$(kbuild) rust-analyzer
ifneq ($(KDIR),)
	@$(tools)/rust-project
else
	@$(tools)/in-root tools/rust-project
	@$(tools)/host-paths rust-project.json
endif

.PHONY: fmt fmt-check
fmt:
	$(tools)/fmt
fmt-check:
	$(tools)/fmt --check

.PHONY: docs
docs:
	$(tools)/docs

.PHONY: check-unsafe check-intree check-panic check-stack
check-unsafe:
	$(tools)/check-unsafe
check-intree:
	$(tools)/check-intree
check-panic: modules
	$(tools)/check-object panic $(KDIR)
check-stack: modules
	$(tools)/check-object stack $(KDIR)

.PHONY: coverage fuzz-host
coverage:
	$(tools)/coverage
fuzz-host:
	$(tools)/fuzz-host $(ARGS)

.PHONY: setup demo test test-debug test-kcsan soak fuzz bench
setup:
	$(tools)/setup
demo:
	$(tools)/demo
test:
	$(tools)/test $(PARTS)
test-debug:
	$(tools)/test debug
test-kcsan:
	$(tools)/test kcsan
soak: modules
	$(tools)/test soak
# COUNT, SECONDS, SEED, ROUND; DEBUG=1 for the debug kernel, ONLY=packets for a part
fuzz: $(if $(DEBUG),,modules)
	$(foreach v,COUNT SECONDS SEED ROUND,$(if $($(v)),L2TP_FUZZ_$(v)=$($(v)))) \
		ARGS='$(if $(ONLY),-k $(ONLY))' $(tools)/test $(if $(DEBUG),build-debug fuzz-debug,fuzz)
bench: modules
	$(tools)/bench

.PHONY: clean
clean:
	find . -name target -prune -o -name .git -prune -o -type f \( \
		-name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' -o \
		-name '.*.cmd' -o -name '*.d' -o -name modules.order -o \
		-name Module.symvers -o -name bindings_generated.rs \) -exec rm -f {} +
	rm -rf .l2tp-bench .l2tp-clippy .l2tp-cloud .l2tp-debug .l2tp-docs .l2tp-fuzz .l2tp-kcsan \
		.l2tp-native .l2tp-test rust-project.json l2tp-rust-dkms_*_all.deb

.PHONY: help
help:
	@echo 'Builds the L2TP kernel module l2tp.ko and tests it.'
	@echo
	@echo '  make [KDIR=tree]      build l2tp.ko; without KDIR, against the running kernel'
	@echo '                        if it has Rust, else against the kernel of tools/setup'
	@echo '  make modules_install  install it and make the C modules'"'"' names mean it'
	@echo '  make deb              the Debian package l2tp-rust-dkms, which builds it for each kernel'
	@echo '  make clean            remove what a build leaves here'
	@echo '  make demo             see it work, in a virtual machine'
	@echo '  make test             run all tests; PARTS="host guest-rust" only some'
	@echo '  make test-deb         the package: installed, booted, with a second kernel, purged'
	@echo '  make test-debug       the tests on a kernel with KASAN, lockdep, kmemleak and more'
	@echo '  make test-kcsan       those that run on both processors at once, on a kernel that sees'
	@echo '                        data races'
	@echo '  make soak             10 minutes each of sockets and sessions coming and going'
	@echo '                        (L2TP_SOAK=seconds), then of the module (L2TP_RELOADS=1000)'
	@echo '  make fuzz             a million requests, socket calls and packets in a virtual machine,'
	@echo '                        and everything that ends a tunnel at once (COUNT=, SECONDS=,'
	@echo '                        SEED=, ROUND= for one round once more, ONLY=packets, DEBUG=1)'
	@echo '  make bench            instructions of a packet, and the speed: ours, C, VXLAN'
	@echo '  make clippy           build with clippy, warnings are errors'
	@echo '  make fmt, fmt-check   format the Rust code, or see whether it is formatted'
	@echo '  make docs             the pages of Documentation/, as HTML'
	@echo '  make check-unsafe     unsafe code only where it may be'
	@echo '  make check-panic      nothing in l2tp.ko panics; names what it relies on for that'
	@echo '  make check-stack      no function of it takes too much stack'
	@echo '  make check-intree     build it as a directory of the kernel tree'
	@echo '  make coverage         which lines of wire and seq the tests on the host run; 98 % or fail'
	@echo '  make fuzz-host        a million inputs for each (tools/fuzz-host --help; ARGS=...)'
	@echo '  make rust-analyzer    write rust-project.json for editors'
	@echo '  make setup            fetch what builds and tests need (the others do it, too)'
	@echo
	@echo 'tools/vm --help: run anything in a virtual machine with the module loaded.'
	@echo 'V=1 shows commands; L2TP_CACHE is where tools/setup keeps things.'

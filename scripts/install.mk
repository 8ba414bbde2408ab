# make install, make uninstall: the libraries, the header, the pkg-config file and the man page.
# The top Makefile says BUILD, VERSION and SOVERSION. PREFIX and the folders below it end up in
# rnalloc.pc; DESTDIR is put before them for packagers and does not.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
INSTALL ?= install

RN_INSTALLED = $(LIBDIR)/librnalloc.so.$(VERSION) $(LIBDIR)/librnalloc.so.$(SOVERSION) $(LIBDIR)/librnalloc.so \
    $(LIBDIR)/librnalloc.a $(INCLUDEDIR)/rnalloc.h $(PKGCONFIGDIR)/rnalloc.pc $(MANDIR)/man3/rnalloc.3

.PHONY: install uninstall

# The pkg-config file is made on the way in: it depends on variables, which make does not watch.
install: $(BUILD)/librnalloc.so $(BUILD)/librnalloc.a
	$(INSTALL) -d $(addprefix $(DESTDIR),$(LIBDIR) $(INCLUDEDIR) $(PKGCONFIGDIR) $(MANDIR)/man3)
	$(INSTALL) -m 755 $(BUILD)/librnalloc.so $(DESTDIR)$(LIBDIR)/librnalloc.so.$(VERSION)
	ln -sf librnalloc.so.$(VERSION) $(DESTDIR)$(LIBDIR)/librnalloc.so.$(SOVERSION)
	ln -sf librnalloc.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/librnalloc.so
	$(INSTALL) -m 644 $(BUILD)/librnalloc.a $(DESTDIR)$(LIBDIR)/
	$(INSTALL) -m 644 include/rnalloc.h $(DESTDIR)$(INCLUDEDIR)/
	$(INSTALL) -m 644 scripts/rnalloc.3 $(DESTDIR)$(MANDIR)/man3/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|' -e 's| *@LDLIBS@|$(LDLIBS:%= %)|' \
	    scripts/rnalloc.pc.in >$(DESTDIR)$(PKGCONFIGDIR)/rnalloc.pc
	chmod 644 $(DESTDIR)$(PKGCONFIGDIR)/rnalloc.pc

uninstall:
	rm -f $(addprefix $(DESTDIR),$(RN_INSTALLED))

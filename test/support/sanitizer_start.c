/*
 * sanitizer_start.c
 *		Preloaded beside AddressSanitizer (checked_server.sh).
 *
 * The sanitizer starts with the first malloc.  That of libgnutls comes from inside of
 * bindtextdomain(), which holds a lock of gettext then; the sanitizer asks for symbols that are not
 * there, whose error messages are translated, which unlocks it; and the next one who wants that
 * lock waits for ever.  So nobody binds a text domain: messages stay as they are in the source.
 */
extern char *bindtextdomain(const char *domain, const char *directory);

char *
bindtextdomain(const char *domain, const char *directory)
{
	(void) domain;
	return (char *) directory;
}

/*
 * pems/api_url_test.c
 *		Which URLs may be called: src/pems/api_url.c.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "pems/api_url.h"

static void
check_api_url(const char *api_url, const char *hosts, bool allow_loopback, bool allowed)
{
	char *error = NULL;
	const char *hint = NULL;
	bool good =
		CHECK_INT(pems_api_url_check(api_url, hosts, allow_loopback, &error, &hint), allowed);

	good = CHECK(allowed || (error != NULL && hint != NULL)) && good;
	if (!good)
		unit_note("%s in %s: %s", api_url ? api_url : "(null)", hosts ? hosts : "(null)",
				  error ? error : "(no error)");
	if (!allowed)
		free(error);
}

UNIT_TEST(api_urls)
{
	const char *hosts = "pems.example.com, Other.example.com,[2001:db8::1],198.51.100.7";

	check_api_url("https://pems.example.com/api", hosts, false, true);
	check_api_url("https://pems.example.com", hosts, false, true);
	check_api_url("HTTPS://PEMS.Example.COM:8443/api/v1/", hosts, false, true);
	check_api_url("https://other.example.com/", hosts, false, true);
	check_api_url("https://[2001:db8::1]/api", hosts, false, true);
	check_api_url("https://[2001:db8::1]/api", "2001:db8::1", false, true);
	check_api_url("https://198.51.100.7/api", hosts, false, true);

	check_api_url(NULL, hosts, false, false);
	check_api_url("", hosts, false, false);
	check_api_url("pems.example.com/api", hosts, false, false);
	check_api_url("http://pems.example.com/api", hosts, false, false);
	check_api_url("http://pems.example.com/api", hosts, true, false);
	check_api_url("ftp://pems.example.com/api", hosts, false, false);
	check_api_url("file:///etc/passwd", hosts, false, false);
	check_api_url("https://user@pems.example.com/api", hosts, false, false);
	check_api_url("https://user:secret@pems.example.com/api", hosts, false, false);
	check_api_url("https://@pems.example.com/api", hosts, false, false);
	check_api_url("https://pems.example.com/api?x=1", hosts, false, false);
	check_api_url("https://pems.example.com/api?", hosts, false, false);
	check_api_url("https://pems.example.com/api#x", hosts, false, false);
	check_api_url("https://pems.example.com/api/../x", hosts, false, false);
	check_api_url("https://pems.example.com/api/%2E%2e", hosts, false, false);
	check_api_url("https://pems.example.com/a pi", hosts, false, false);
	check_api_url("https://pems.example.com\\@evil.example/", hosts, false, false);
	check_api_url("https://pems.example.com/\r\n", hosts, false, false);
	check_api_url("https://p\xc3\xa9ms.example.com/", hosts, false, false);
	check_api_url("https://pems.example.com:0/api", hosts, false, false);
	check_api_url("https://pems.example.com:99999/api", hosts, false, false);
	check_api_url("https:///api", hosts, false, false);
}

UNIT_TEST(allowed_hosts_are_compared_whole)
{
	check_api_url("https://pems.example.com/", "", false, false);
	check_api_url("https://pems.example.com/", NULL, false, false);
	check_api_url("https://pems.example.com/", " , ,", false, false);
	check_api_url("https://pems.example.com/", "*.example.com", false, false);
	check_api_url("https://pems.example.com/", "*", false, false);
	check_api_url("https://pems.example.com/", "pems.example.com:443", false, false);
	check_api_url("https://pems.example.com/", "example.com", false, false);
	check_api_url("https://pems.example.com/", "pems.example.com.evil.example", false, false);
	check_api_url("https://pems.example.com.evil.example/", "pems.example.com", false, false);
	check_api_url("https://pems.example.com/", "x,pems.example.com", false, true);
}

UNIT_TEST(loopback_needs_the_setting_and_a_place_in_the_list)
{
	static const char *const loopback[] = {"localhost", "127.0.0.1",   "[::1]",
										   "127.9.9.9", "a.localhost", "LOCALHOST"};
	char url[128];

	for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++)
	{
		snprintf(url, sizeof(url), "https://%s:8080/api", loopback[i]);
		check_api_url(url, loopback[i], false, false);
		check_api_url(url, loopback[i], true, true);
		check_api_url(url, "pems.example.com", true, false);
		snprintf(url, sizeof(url), "http://%s:8080/api", loopback[i]);
		check_api_url(url, loopback[i], false, false);
		check_api_url(url, loopback[i], true, true);
	}
	check_api_url("https://169.254.169.254/", "169.254.169.254", true, false);
	check_api_url("https://0.0.0.0/", "0.0.0.0", true, false);
	check_api_url("https://[fe80::1]/", "fe80::1", true, false);
	/* other spellings of 127.0.0.1 are read as what they are */
	check_api_url("https://2130706433/", "2130706433", false, false);
	check_api_url("https://127.1/", "127.1,127.0.0.1", false, false);
	check_api_url("https://notlocalhost/", "notlocalhost", false, true);
}

static void
check_endpoint(const char *api_url, const char *expected)
{
	char *endpoint = pems_api_url_endpoint(api_url);

	CHECK_TEXT(endpoint, expected);
	free(endpoint);
}

UNIT_TEST(endpoints)
{
	check_endpoint("https://pems.example.com/api", "https://pems.example.com:443");
	check_endpoint("HTTPS://PEMS.example.com:443", "https://pems.example.com:443");
	check_endpoint("https://pems.example.com:8443/a/b", "https://pems.example.com:8443");
	check_endpoint("http://127.0.0.1:8080", "http://127.0.0.1:8080");
	check_endpoint("https://[2001:DB8::1]/", "https://[2001:db8::1]:443");
	check_endpoint("nonsense", NULL);
	check_endpoint("", NULL);
	check_endpoint(NULL, NULL);
}

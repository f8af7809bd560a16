/*
 * database/setup.c
 *		What the worker must know before it sends anything: may it send from this database,
 *		organizations with their sealed credentials, the field catalogue.  And what it found out
 *		about the credentials, for people.
 *
 * Process: the background worker; each public function is one transaction (database.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"

#include "database/app_tables.h"
#include "database/array.h"
#include "database/database.h"
#include "database/statement.h"
#include "database/transaction.h"

/* --- statements --- */

static const PemsColumn standing_columns[] = {{"_pems_standing", TEXTOID}};
static PemsStatement standing_statement = {
	.text = "SELECT %s._pems_standing()",
	.result = SPI_OK_SELECT,
	.columns = PEMS_COLUMNS("_pems_standing()", standing_columns),
};

static const PemsColumn catalogue_columns[] = {{"_pems_catalogue", JSONBOID}};
static PemsStatement catalogue_statement = {
	.text = "SELECT %s._pems_catalogue()",
	.result = SPI_OK_SELECT,
	.columns = PEMS_COLUMNS("_pems_catalogue()", catalogue_columns),
};

typedef enum OrganizationColumn
{
	ORGANIZATION_ID,
	CODE,
	API_URL,
	ENDPOINT,
	SEALED_TOKEN,
	KEY_ID,
	GENERATION
} OrganizationColumn;

static const PemsColumn organization_columns[] = {
	[ORGANIZATION_ID] = {"organization_id", TEXTOID},
	[CODE] = {"code", TEXTOID},
	[API_URL] = {"api_url", TEXTOID},
	[ENDPOINT] = {"endpoint", TEXTOID},
	[SEALED_TOKEN] = {"sealed_token", BYTEAOID},
	[KEY_ID] = {"key_id", TEXTOID},
	[GENERATION] = {"generation", INT8OID},
};
static PemsStatement organizations_statement = {
	.text = "SELECT * FROM %s._pems_organizations()",
	.result = SPI_OK_SELECT,
	.columns = PEMS_COLUMNS("_pems_organizations()", organization_columns),
};

static PemsStatement note_credentials_statement = {
	.text = "SELECT %s._pems_note_credentials($1, $2, $3)",
	.result = SPI_OK_SELECT,
	.argument_count = 3,
	.types = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
};

/* --- read it --- */

typedef struct SetupWork
{
	MemoryContext context;
	PemsDatabaseSetup *setup;
} SetupWork;

static PemsStanding
read_standing(void)
{
	PemsRow row;
	char *word;

	if (!pems_app_tables_are_intact(pems_transaction_schema()))
		return PEMS_STANDING_NOT_ATTACHED;
	pems_statement_run(&standing_statement, pems_transaction_schema(), NULL, NULL);
	row = pems_statement_row(&standing_statement, 0);
	word = pems_row_text(&row, 0, CurrentMemoryContext);
	if (strcmp(word, "ok") == 0)
		return PEMS_STANDING_OK;
	return strcmp(word, "copy") == 0 ? PEMS_STANDING_COPY : PEMS_STANDING_NOT_ATTACHED;
}

static char *
read_catalogue(MemoryContext context)
{
	PemsRow row;

	pems_statement_run(&catalogue_statement, pems_transaction_schema(), NULL, NULL);
	row = pems_statement_row(&catalogue_statement, 0);
	return pems_row_json(&row, 0, context);
}

static void
read_organization(MemoryContext context, uint64 number, PemsDatabaseOrganization *organization)
{
	PemsRow row = pems_statement_row(&organizations_statement, number);

	organization->id = pems_row_text(&row, ORGANIZATION_ID, context);
	organization->code = pems_row_text(&row, CODE, context);
	organization->api_url = pems_row_text(&row, API_URL, context);
	organization->endpoint = pems_row_text(&row, ENDPOINT, context);
	organization->sealed =
		pems_row_bytes(&row, SEALED_TOKEN, context, &organization->sealed_length);
	organization->key_id = pems_row_text(&row, KEY_ID, context);
	organization->generation = pems_row_integer(&row, GENERATION, 0);
}

static void
read_organizations(MemoryContext context, PemsDatabaseSetup *setup)
{
	pems_statement_run(&organizations_statement, pems_transaction_schema(), NULL, NULL);
	setup->organizations =
		MemoryContextAlloc(context, sizeof(PemsDatabaseOrganization) * Max(SPI_processed, 1));
	for (uint64 row = 0; row < SPI_processed; row++)
		read_organization(context, row, &setup->organizations[setup->organization_count++]);
}

static void
read_setup(void *argument)
{
	SetupWork *work = argument;
	PemsDatabaseSetup *setup = work->setup;

	setup->organization_count = 0;
	setup->organizations = NULL;
	setup->standing = read_standing();
	setup->catalogue = read_catalogue(work->context);
	/* otherwise the table organization may not even exist */
	if (setup->standing == PEMS_STANDING_OK)
		read_organizations(work->context, setup);
}

PemsDatabaseStatus
pems_database_read_setup(PemsDatabaseSetup *setup)
{
	SetupWork work = {CurrentMemoryContext, setup};

	return pems_transaction_run("reading credentials and the field catalogue", PEMS_TABLES_OURS,
								read_setup, &work);
}

/* --- what the credentials are like --- */

typedef struct NoteWork
{
	const PemsCredentialNote *notes;
	int count;
} NoteWork;

static void
note_credentials(void *argument)
{
	NoteWork *work = argument;
	const char **ids = palloc(sizeof(char *) * Max(work->count, 1));
	const char **states = palloc(sizeof(char *) * Max(work->count, 1));
	const char **problems = palloc(sizeof(char *) * Max(work->count, 1));
	Datum values[3];

	for (int i = 0; i < work->count; i++)
	{
		ids[i] = work->notes[i].organization_id;
		states[i] = work->notes[i].state;
		problems[i] = work->notes[i].problem ? work->notes[i].problem : "";
	}
	values[0] = pems_text_array(ids, work->count);
	values[1] = pems_text_array(states, work->count);
	values[2] = pems_text_array(problems, work->count);
	pems_statement_run(&note_credentials_statement, pems_transaction_schema(), values, NULL);
}

PemsDatabaseStatus
pems_database_note_credentials(const PemsCredentialNote *notes, int count)
{
	NoteWork work = {notes, count};

	return pems_transaction_run("noting the states of credentials", PEMS_TABLES_OURS,
								note_credentials, &work);
}

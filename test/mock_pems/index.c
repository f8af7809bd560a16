/*
 * index.c
 *		The records of one organization in the order of read many: (updatedAt, pfaId).
 */
#include <string.h>

#include "index.h"
#include "store.h"

static bool
record_before(const MockRecord *a, const MockRecord *b)
{
	if (a->state.updated_at != b->state.updated_at)
		return a->state.updated_at < b->state.updated_at;
	return strcmp(a->pfa_id, b->pfa_id) < 0;
}

bool
mock_index_behind(int64_t updated_at, const char *pfa_id, const MockPosition *position)
{
	if (updated_at != position->updated_at)
		return updated_at > position->updated_at;
	return position->pfa_id == NULL || strcmp(pfa_id, position->pfa_id) > 0;
}

/* Part a tree into what is before the record and what is behind it. */
static void
split(MockRecord *tree, const MockRecord *record, MockRecord **before, MockRecord **behind)
{
	while (tree != NULL)
	{
		if (record_before(tree, record))
		{
			*before = tree;
			before = &tree->right;
			tree = tree->right;
		}
		else
		{
			*behind = tree;
			behind = &tree->left;
			tree = tree->left;
		}
	}
	*before = NULL;
	*behind = NULL;
}

void
mock_index_insert(MockRecord **root, MockRecord *record)
{
	MockRecord **link = root;

	while (*link != NULL && (*link)->heap >= record->heap)
		link = record_before(*link, record) ? &(*link)->right : &(*link)->left;
	split(*link, record, &record->left, &record->right);
	*link = record;
}

void
mock_index_remove(MockRecord **root, const MockRecord *record)
{
	MockRecord **link = root;
	MockRecord *left = record->left;
	MockRecord *right = record->right;

	while (*link != NULL && *link != record)
		link = record_before(*link, record) ? &(*link)->right : &(*link)->left;
	if (*link == NULL)
		return;
	while (left != NULL && right != NULL)
	{
		if (left->heap >= right->heap)
		{
			*link = left;
			link = &left->right;
			left = left->right;
		}
		else
		{
			*link = right;
			link = &right->left;
			right = right->left;
		}
	}
	*link = left != NULL ? left : right;
}

/* The recursion goes as deep as the treap: about 50 for a million records. */
bool
mock_index_walk(const MockRecord *root, const MockPosition *position, MockIndexVisit visit,
				void *context)
{
	if (root == NULL)
		return true;
	if (mock_index_behind(root->state.updated_at, root->pfa_id, position))
	{
		if (!mock_index_walk(root->left, position, visit, context))
			return false;
		if (!visit(root, context))
			return false;
	}
	return mock_index_walk(root->right, position, visit, context);
}

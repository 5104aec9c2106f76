-- Statements about the audit: what operators did. Entries are added, nothing else.

-- name: add
INSERT INTO audit (entry_id, action_id, at, actor, what, target, epoch, outcome, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: entries
-- The latest first. $1, $2: before this entry. $3, $4: of this actor, of this kind; null: of any. $5: at most so many.
SELECT entry_id, action_id, at, recorded_at, actor, what, target, epoch, outcome, detail FROM audit
WHERE (at, entry_id) < ($1, $2) AND actor = coalesce($3, actor) AND what = coalesce($4, what)
ORDER BY at DESC, entry_id DESC LIMIT $5;

package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"every.channel/ec-verify/pkg/nar"
)

// checkItems sorts the items of inv, and refuses duplicates.
func (inv *Inventory) checkItems() error {
	if !slices.Contains(Tiers(), inv.Tier) {
		return fmt.Errorf("%q is no tier of the ledger", string(inv.Tier))
	}
	inv.Items = slices.Clone(inv.Items)
	slices.SortFunc(inv.Items, func(a, b Item) int { return a.Key().compare(b.Key()) })
	for i := range inv.Items {
		if i > 0 && inv.Items[i].Key() == inv.Items[i-1].Key() {
			return fmt.Errorf("%s is in the inventory twice", inv.Items[i].Path)
		}
		if len(inv.Items[i].Path) > maxText {
			return fmt.Errorf("%s is too long for the ledger", clip(string(inv.Items[i].Path)))
		}
	}
	return nil
}

// known returns the number and the digest of the inventory that the ledger has of the
// tier and manifest of inv, 0 for none.
func known(ctx context.Context, tx *sql.Tx, inv Inventory) (id int64, digest nar.Hash, err error) {
	var was []byte
	err = tx.QueryRowContext(ctx, "select id, digest from inventories where tier = ? and tag = ? and manifest = ?",
		string(inv.Tier), inv.Manifest.Tag, inv.Manifest.SHA256[:]).Scan(&id, &was)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nar.Hash{}, nil
	}
	if err == nil {
		digest, err = toHash(was)
	}
	return id, digest, err
}

// expect makes inv the last used inventory of its tier, and forgets what is in no
// inventory any more.
func expect(ctx context.Context, tx *sql.Tx, run int64, inv Inventory) error {
	h := head{run: run, digest: inv.digest(), Inventory: inv}
	var was nar.Hash
	var err error
	if h.id, was, err = known(ctx, tx, inv); err != nil {
		return err
	}
	if h.id == 0 {
		if err := tx.QueryRowContext(ctx, "select coalesce(max(id), 0) + 1 from inventories").Scan(&h.id); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `insert into inventories (id, tier, tag, manifest, run, digest, sum) values (?, ?, ?, ?, ?, ?, ?)
		on conflict (id) do update set run = excluded.run, digest = excluded.digest, sum = excluded.sum`,
		h.id, string(h.Tier), h.Manifest.Tag, h.Manifest.SHA256[:], h.run, h.digest[:], h.sum()); err != nil {
		return err
	}
	if was == h.digest {
		return nil // the usual case: the same manifest again
	}
	if _, err := tx.ExecContext(ctx, "delete from members where inventory = ?", h.id); err != nil {
		return err
	}
	if err := addMembers(ctx, tx, h); err != nil {
		return err
	}
	return prune(ctx, tx, inv.Tier)
}

func addMembers(ctx context.Context, tx *sql.Tx, h head) error {
	newItem, err := tx.PrepareContext(ctx, "insert into items (tier, path, want) values (?, ?, ?) on conflict do nothing")
	if err != nil {
		return err
	}
	defer newItem.Close()
	newMember, err := tx.PrepareContext(ctx, `insert into members (inventory, item, cost)
		select ?, id, ? from items where tier = ? and path = ? and want = ?`)
	if err != nil {
		return err
	}
	defer newMember.Close()
	for _, item := range h.Items {
		if _, err := newItem.ExecContext(ctx, string(h.Tier), string(item.Path), item.Want[:]); err != nil {
			return err
		}
		if _, err := newMember.ExecContext(ctx, h.id, item.Cost, string(h.Tier), string(item.Path), item.Want[:]); err != nil {
			return err
		}
	}
	return nil
}

// prune forgets all but the last inventories of a tier, counting those of looks
// separately, and the items that are in none of them, with their checks.
func prune(ctx context.Context, tx *sql.Tx, tier Tier) error {
	if _, err := tx.ExecContext(ctx, `delete from inventories where tier = ? and tag != '' and id not in
		(select id from inventories where tier = ? and tag != '' order by run desc, id desc limit ?)`,
		string(tier), string(tier), keptInventories); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "delete from items where tier = ? and id not in (select item from members)", string(tier))
	return err
}

package expected

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// The names of the files in which NixOS's configuration states its users (its modules
// config/users-groups.nix and services/system/userborn.nix).
const (
	usersFile     = "users-groups.json"
	userbornFile  = "userborn.json"
	lingeringFile = "lingering-users"
)

// configured is such a file, with the members that are used here.
type configured struct {
	MutableUsers bool `json:"mutableUsers"`
	Users        []struct {
		Name            string  `json:"name"`
		Number          *uint32 `json:"uid"`
		Group           string  `json:"group"`
		Home            string  `json:"home"`
		Shell           string  `json:"shell"`
		HashedPassword  *string `json:"hashedPassword"`
		InitialHashed   *string `json:"initialHashedPassword"`
		Password        *string `json:"password"`
		InitialPassword *string `json:"initialPassword"`
	} `json:"users"`
	Groups []struct {
		Name    string   `json:"name"`
		Number  *uint32  `json:"gid"`
		Members []string `json:"members"`
	} `json:"groups"`
}

// readUsers returns the system's statement about users; nil if it has none.
func readUsers(store *nixstore.Store, paths []closure.PathInfo) (*Users, error) {
	files := called(paths, usersFile)
	userborn := len(files) == 0
	if userborn {
		files = called(paths, userbornFile)
	}
	if len(files) != 1 {
		return nil, nil
	}
	data, err := store.ReadFile(files[0], "", maxFile)
	if err != nil {
		return nil, err
	}
	c := new(configured)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w", files[0], err)
	}
	// Userborn's file does not say whether others may be added.
	out := &Users{Mutable: c.MutableUsers || userborn, Users: []User{}, Groups: []Group{}}
	for _, u := range c.Users {
		user := User{Name: u.Name, Number: u.Number, Group: u.Group, Home: u.Home, Shell: u.Shell}
		for _, p := range []*string{u.HashedPassword, u.InitialHashed, u.Password, u.InitialPassword} {
			user.Passwordless = user.Passwordless || p != nil && *p == ""
		}
		out.Users = append(out.Users, user)
	}
	for _, g := range c.Groups {
		slices.Sort(g.Members)
		out.Groups = append(out.Groups, Group{Name: g.Name, Number: g.Number, Members: append([]string{}, g.Members...)})
	}
	slices.SortFunc(out.Users, func(a, b User) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// called returns the paths with the given name.
func called(paths []closure.PathInfo, name string) []closure.StorePath {
	var out []closure.StorePath
	for _, info := range paths {
		if info.Path.Name() == name {
			out = append(out, info.Path)
		}
	}
	return out
}

// readLingering returns the users whose services run without a login according to the
// configuration.
func readLingering(store *nixstore.Store, paths []closure.PathInfo) ([]string, error) {
	out := []string{}
	for _, p := range called(paths, lingeringFile) {
		data, err := store.ReadFile(p, "", maxFile)
		if err != nil {
			return nil, err
		}
		out = append(out, strings.Fields(string(data))...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// User returns the user name; nil for none.
func (u *Users) User(name string) *User {
	if u == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(u.Users, name, func(user User, name string) int { return cmp.Compare(user.Name, name) })
	if !ok {
		return nil
	}
	return &u.Users[i]
}

// Group returns the group name; nil for none.
func (u *Users) Group(name string) *Group {
	if u == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(u.Groups, name, func(group Group, name string) int { return cmp.Compare(group.Name, name) })
	if !ok {
		return nil
	}
	return &u.Groups[i]
}

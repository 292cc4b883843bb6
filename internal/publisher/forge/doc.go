// Package forge puts a release on a forge by the API that Forgejo and Gitea
// share (https://HOST/api/swagger, "repository", releases):
//
//	GET    /repos/OWNER/REPO                        what speaks against publishing:
//	GET    /repos/OWNER/REPO/tags/TAG               a tag that stands elsewhere,
//	GET    /repos/OWNER/REPO/git/commits/COMMIT     a commit that is not there,
//	GET    /repos/OWNER/REPO/tag_protections        a tag that nobody may make
//	GET    /repos/OWNER/REPO/releases/tags/TAG      find a release
//	GET    /repos/OWNER/REPO/releases?page=&limit=  the same, for drafts
//	POST   /repos/OWNER/REPO/releases               create one
//	PATCH  /repos/OWNER/REPO/releases/ID            publish it
//	GET    /repos/OWNER/REPO/releases/ID/assets     what it holds
//	POST   /repos/OWNER/REPO/releases/ID/assets     add an asset
//	PATCH  /repos/OWNER/REPO/releases/ID/assets/ID  put one into its place
//	DELETE /repos/OWNER/REPO/releases/ID/assets/ID  take one away
//
// A new release is a draft until it is whole. But a draft is no hiding place: its
// assets answer to whoever knows their numbers, and to any token of somebody who may
// write, and whoever pushes its tag publishes it as it is. And a forge keeps assets of
// one name side by side. So [Client.Publish] makes a release without its identity, the
// list of its checksums, one that is not there yet: that comes last, and the former
// one goes before anything else does. To a reader the release is there as it was, then
// not there, then there as it is now, and never a mixture. The same call again
// completes what failed on the way.
//
// Contents are streamed; no library is used for the API since those that there
// are (code.gitea.io/sdk and its descendant) hold an asset in memory as a whole.
package forge

// Package forge puts a release on a forge by the API that Forgejo and Gitea share
// (https://HOST/api/swagger, "repository", releases):
//
//	GET    /repos/OWNER/REPO                        obstacles to publishing:
//	GET    /repos/OWNER/REPO/tags/TAG               a tag at another commit,
//	GET    /repos/OWNER/REPO/git/commits/COMMIT     a missing commit,
//	GET    /repos/OWNER/REPO/tag_protections        a tag that nobody may create
//	GET    /repos/OWNER/REPO/releases/tags/TAG      find a release
//	GET    /repos/OWNER/REPO/releases?page=&limit=  the same, for drafts
//	POST   /repos/OWNER/REPO/releases               create one
//	PATCH  /repos/OWNER/REPO/releases/ID            publish it
//	GET    /repos/OWNER/REPO/releases/ID/assets     list its assets
//	POST   /repos/OWNER/REPO/releases/ID/assets     add an asset
//	PATCH  /repos/OWNER/REPO/releases/ID/assets/ID  rename one
//	DELETE /repos/OWNER/REPO/releases/ID/assets/ID  remove one
//
// A new release is a draft until it is complete. But a draft hides nothing: anyone who
// knows the numbers of its assets can read them, and so can any token of a user who may
// write; and pushing its tag publishes it unchanged. And a forge keeps several assets of
// one name side by side. So [Client.Publish] treats a release without its identity, the
// list of its checksums, as one that does not exist yet: it removes the former list before
// anything else, and uploads the new one last. A reader first sees the former release,
// then none, then the new one, and never a mixture. The same call again completes a
// failed one.
//
// Contents are streamed. No library is used for the API, since the existing ones
// (code.gitea.io/sdk and its descendant) keep a whole asset in memory.
package forge

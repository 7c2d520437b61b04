/** States after which nothing more happens to a request, an appeal aside. */
export const SETTLED = ['Final', 'Rejected', 'Expired', 'Cancelled', 'Unanswerable', 'Overturned']
